"""Architectures, one a file."""

from jann.models.combinators import Chain, Parallel, Residual, chain, parallel, residual
from jann.models.dlinear import DLinear
from jann.models.from_flax import from_flax
from jann.models.lenet import LeNet
from jann.models.lstm_forecaster import LSTMForecaster
from jann.models.mlp import MLP
from jann.models.parts import BatchNorm, Conv, Dropout, Flatten, Linear
from jann.models.patchtst import PatchTST
from jann.models.perceptron import Neuron, Perceptron, perceptron_epoch, perceptron_rule
from jann.models.recurrent import GRU, LSTM, RNN, SequenceClassifier
from jann.models.recurrent_language import RecurrentLanguageModel
from jann.models.resnet import ResNet, resnet18, resnet20, resnet32, resnet34, resnet50, resnet56
from jann.models.temporal_fusion import TemporalFusionTransformer
from jann.models.vgg import VGG

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "VGG",
    "BatchNorm",
    "Chain",
    "Conv",
    "DLinear",
    "Dropout",
    "Flatten",
    "LSTMForecaster",
    "LeNet",
    "Linear",
    "Neuron",
    "Parallel",
    "PatchTST",
    "Perceptron",
    "RecurrentLanguageModel",
    "ResNet",
    "Residual",
    "SequenceClassifier",
    "TemporalFusionTransformer",
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
