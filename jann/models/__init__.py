"""Architectures, one a file."""

from jann.models.actor_critic import ActorCritic
from jann.models.attention_seq2seq import AttentionSeq2Seq
from jann.models.autoencoder import Autoencoder, ConvAutoencoder, absolute, sparsity
from jann.models.bert import BERT, sentence_embedding
from jann.models.centernet import CenterNet
from jann.models.clip import CLIP, pair_loss
from jann.models.combinators import Chain, Parallel, Residual, chain, parallel, residual
from jann.models.convnext import ConvNeXt
from jann.models.dcgan import Discriminator, Generator
from jann.models.deberta import DeBERTa
from jann.models.dit import DiT
from jann.models.dlinear import DLinear
from jann.models.from_flax import from_flax
from jann.models.gemma import Gemma
from jann.models.gpt2 import GPT2
from jann.models.gpt_neox import GPTNeoX
from jann.models.lenet import LeNet
from jann.models.llama import Llama
from jann.models.lstm_forecaster import LSTMForecaster
from jann.models.mamba import Mamba
from jann.models.matrix_factorisation import MatrixFactorisation
from jann.models.mlp import MLP
from jann.models.opt import OPT
from jann.models.parts import BatchNorm, Conv, Dropout, Flatten, Linear
from jann.models.patchtst import PatchTST
from jann.models.perceptron import Neuron, Perceptron, perceptron_epoch, perceptron_rule
from jann.models.recurrent import GRU, LSTM, RNN, SequenceClassifier
from jann.models.recurrent_language import RecurrentLanguageModel
from jann.models.resnet import ResNet, resnet18, resnet20, resnet32, resnet34, resnet50, resnet56
from jann.models.segmentation_unet import SegmentationUNet
from jann.models.t5 import T5
from jann.models.temporal_fusion import TemporalFusionTransformer
from jann.models.text_cnn import TextCNN
from jann.models.transformer import Transformer
from jann.models.unet import UNet
from jann.models.vae import VAE, elbo, elbo_objective, gaussian_kl, importance_bound
from jann.models.vgg import VGG
from jann.models.vit import ViT
from jann.models.wav2vec2 import Wav2Vec2
from jann.models.wavenet import WaveNet
from jann.models.whisper import Whisper

__all__ = [
    "ActorCritic",
    "AttentionSeq2Seq",
    "Autoencoder",
    "BERT",
    "BatchNorm",
    "CLIP",
    "CenterNet",
    "Chain",
    "Conv",
    "ConvAutoencoder",
    "ConvNeXt",
    "DLinear",
    "DeBERTa",
    "DiT",
    "Discriminator",
    "Dropout",
    "Flatten",
    "GPT2",
    "GPTNeoX",
    "GRU",
    "Gemma",
    "Generator",
    "LSTM",
    "LSTMForecaster",
    "LeNet",
    "Linear",
    "Llama",
    "MLP",
    "Mamba",
    "MatrixFactorisation",
    "Neuron",
    "OPT",
    "Parallel",
    "PatchTST",
    "Perceptron",
    "RNN",
    "RecurrentLanguageModel",
    "ResNet",
    "Residual",
    "SegmentationUNet",
    "SequenceClassifier",
    "T5",
    "TemporalFusionTransformer",
    "TextCNN",
    "Transformer",
    "UNet",
    "VAE",
    "VGG",
    "ViT",
    "Wav2Vec2",
    "WaveNet",
    "Whisper",
    "absolute",
    "chain",
    "elbo",
    "elbo_objective",
    "from_flax",
    "gaussian_kl",
    "importance_bound",
    "pair_loss",
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
    "sparsity",
]
