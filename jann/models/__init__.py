"""Architectures, one a file."""

from jann.models.bert import BERT, sentence_embedding
from jann.models.combinators import Chain, Parallel, Residual, chain, parallel, residual
from jann.models.from_flax import from_flax
from jann.models.gpt2 import GPT2
from jann.models.lenet import LeNet
from jann.models.llama import Llama
from jann.models.mlp import MLP
from jann.models.parts import BatchNorm, Conv, Dropout, Flatten, Linear
from jann.models.perceptron import Neuron, Perceptron, perceptron_epoch, perceptron_rule
from jann.models.resnet import ResNet, resnet18, resnet20, resnet32, resnet34, resnet50, resnet56
from jann.models.t5 import T5
from jann.models.transformer import Transformer
from jann.models.vgg import VGG
from jann.models.vit import ViT

__all__ = [
    "BERT",
    "GPT2",
    "MLP",
    "T5",
    "Transformer",
    "VGG",
    "BatchNorm",
    "Chain",
    "Conv",
    "Dropout",
    "Flatten",
    "LeNet",
    "Linear",
    "Llama",
    "Neuron",
    "Parallel",
    "Perceptron",
    "ResNet",
    "Residual",
    "ViT",
    "chain",
    "from_flax",
    "parallel",
    "perceptron_epoch",
    "perceptron_rule",
    "residual",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet50",
    "resnet56",
    "sentence_embedding",
]
