"""Architectures, one a file."""

from jann.models.attention_seq2seq import AttentionSeq2Seq
from jann.models.combinators import Chain, Parallel, Residual, chain, parallel, residual
from jann.models.from_flax import from_flax
from jann.models.lenet import LeNet
from jann.models.mlp import MLP
from jann.models.parts import BatchNorm, Conv, Dropout, Flatten, Linear
from jann.models.perceptron import Neuron, Perceptron, perceptron_epoch, perceptron_rule
from jann.models.recurrent import GRU, LSTM, RNN, SequenceClassifier
from jann.models.recurrent_language import RecurrentLanguageModel
from jann.models.resnet import ResNet, resnet18, resnet20, resnet32, resnet34, resnet50, resnet56
from jann.models.vgg import VGG
from jann.models.wavenet import WaveNet

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "VGG",
    "AttentionSeq2Seq",
    "BatchNorm",
    "Chain",
    "Conv",
    "Dropout",
    "Flatten",
    "LeNet",
    "Linear",
    "Neuron",
    "Parallel",
    "Perceptron",
    "RecurrentLanguageModel",
    "ResNet",
    "Residual",
    "WaveNet",
    "SequenceClassifier",
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
]
