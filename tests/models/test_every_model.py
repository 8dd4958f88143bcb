"""What holds for every model: gradients, batches, jit, repr and JSON, starts that do not depend on each other."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jann
from jann.analysis import check_gradients
from jann.models import (
    GRU,
    LSTM,
    MLP,
    RNN,
    VAE,
    VGG,
    Autoencoder,
    BatchNorm,
    Conv,
    ConvAutoencoder,
    ConvNeXt,
    Discriminator,
    DLinear,
    Dropout,
    Flatten,
    Generator,
    LeNet,
    Linear,
    LSTMForecaster,
    Neuron,
    PatchTST,
    Perceptron,
    ResNet,
    SequenceClassifier,
    ViT,
    Wav2Vec2,
    chain,
    parallel,
    residual,
    resnet20,
)

TANH = jnp.tanh  # smooth, so that finite differences meet no kink

MODELS = {
    "perceptron": (Perceptron(4), (4,)),
    "neuron": (Neuron(4), (4,)),
    "mlp": (MLP(4, (5,), 3, TANH), (4,)),
    "lenet": (LeNet(), (28, 28, 1)),
    "vgg": (VGG(2, 3, ((3,), (4,)), activation=TANH), (4, 4, 2)),
    "vgg_dense": (VGG(2, 3, ((3,),), (5,), size=4, batch_norm=False, dropout=0.5, activation=TANH), (4, 4, 2)),
    "resnet_cifar": (ResNet(3, 4, (1, 1), (3, 5), activation=TANH), (5, 5, 3)),
    "resnet_imagenet": (
        ResNet(3, 4, (1, 1), (2, 3), "bottleneck", "imagenet", "B", activation=jax.nn.softplus),
        (12, 12, 3),
    ),
    "convnext": (ConvNeXt(2, 3, (1, 2), (4, 5), 2, TANH, 0.5, drop_path=0.5), (4, 5, 2)),
    "autoencoder": (Autoencoder(4, (5,), 2, TANH, jax.nn.sigmoid), (4,)),
    "conv_autoencoder": (ConvAutoencoder(2, 4, (2, 3), 3, TANH), (4, 4, 2)),
    "vae": (VAE(4, (5,), 2, activation=TANH), (4,)),
    "generator": (Generator(3, 4, 2, (4, 3), activation=TANH), (3,)),
    "discriminator": (Discriminator(4, 2, (3, 4), slope=0.9), (4, 4, 2)),
    "dlinear": (DLinear(6, 2, 3), (6, 2)),
    "dlinear_channels": (DLinear(6, 2, 3, channels=2), (6, 2)),
    "lstm_forecaster": (LSTMForecaster(2, 3, hidden=4, layers=2, dropout=0.5), (5, 2)),
    # Normalised after the shortcut, biases have no gradient that could be compared.
    "patchtst": (PatchTST(10, 3, 4, 3, 4, heads=2, hidden=5, layers=2, pre_norm=True, dropout=0.5), (10, 2)),
    "patchtst_layer": (
        PatchTST(9, 2, 4, 2, embed=4, heads=1, hidden=5, layers=1, norm="layer", pooling="mean"),
        (9, 2),
    ),
    "vit_scaled": (
        ViT(4, 2, 1, 8, 2, 2, 5, 3, epsilon=1e-3, layer_scale=True, mean_too=True, activation=TANH), (4, 4, 1),
    ),
    "vit": (ViT(4, 2, 1, 8, 2, 2, 5, 3, epsilon=1e-3, dropout=0.5), (4, 4, 1)),
    "wav2vec2": (
        Wav2Vec2(3, (4, 3), (3, 2), (2, 1), embed=4, layers=2, heads=2, hidden=5, position_window=4, position_groups=2,
                 epsilon=1e-3, dropout=0.5),
        (12,),
    ),
    "wav2vec2_layer": (
        Wav2Vec2(3, (4, 3), (3, 2), (2, 1), True, "layer", TANH, 4, 2, 2, 5, 3, 1, norm_first=True, epsilon=1e-3),
        (12,),
    ),
    "rnn": (RNN(3, 4), (5, 3)),
    "lstm": (LSTM(3, 4, layers=2, dropout=0.5), (5, 3)),
    "gru": (GRU(3, 4, bidirectional=True), (5, 3)),
    "sequence_classifier": (SequenceClassifier(3, 2, 4, cell="gru", bidirectional=True, pool="last"), (5, 3)),
    "linear": (Linear(4, 3), (4,)),
    "conv": (Conv(4, 6, (3,), stride=2, padding="causal", groups=2), (5, 4)),
    "batch_norm": (BatchNorm(4), (4,)),
    "dropout": (Dropout(0.5), (4,)),
    "flatten": (Flatten(2), (2, 3)),
    "chain": (chain(Linear(4, 5), jax.nn.gelu, Dropout(0.5), BatchNorm(5), Linear(5, 3)), (4,)),
    "residual": (residual(chain(Linear(4, 4), jnp.tanh)), (4,)),
    "parallel": (parallel(Linear(4, 3), jnp.tanh, join="concatenate"), (4,)),
    "parallel_multiply": (parallel(Linear(4, 4), residual(Linear(4, 4)), join="multiply"), (4,)),
}
models = pytest.mark.parametrize("name", MODELS)
LEARNING = [name for name in MODELS if name not in ("perceptron", "dropout", "flatten")]


@pytest.fixture
def made(name, drawn, key):
    """The model, parameters for it, and a batch of inputs."""
    model, shape = MODELS[name]
    return model, drawn(model), jax.random.normal(key, (3, *shape))


@pytest.mark.parametrize("name", LEARNING)
def test_gradients(made):
    """Of the trained parameters, with the batch's own statistics, against finite differences."""
    model, params, x = made
    trained, _ = jann.split(model, params)
    weights = jax.random.normal(jax.random.key(3), jax.eval_shape(model, trained, x).shape)
    errors = check_gradients(lambda p, x: (model(p, x) * weights).sum(), trained, x, tolerance=1e-4)
    assert errors.keys() == jann.flatten(trained).keys()


@models
def test_vmap_one_example_and_more_axes_agree_with_the_batch(made):
    model, params, x = made
    @jax.jit
    def each_way(params, x):
        return model(params, x), jax.vmap(model, (None, 0))(params, x), model(params, x[1]), model(params, x[None])

    batch, mapped, one, more = each_way(params, x)
    np.testing.assert_allclose(mapped, batch, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one, batch[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(more[0], batch, rtol=1e-4, atol=1e-5)


@models
def test_of_no_examples_there_are_no_outputs(made):
    model, params, x = made
    assert jax.eval_shape(model, params, x[:0]).shape == (0, *jax.eval_shape(model, params, x).shape[1:])


@models
def test_repr_and_json_give_the_model_back(name):
    model, _ = MODELS[name]
    again = jann.from_json(json.loads(json.dumps(jann.to_json(model))))
    assert again == model and hash(again) == hash(model) and repr(again) == repr(model)
    names = {"jax": jax, "jann": jann, **vars(jann.models)}
    assert eval(repr(model), names) == model


@models
def test_half_precision_in_half_precision_out(name, made):
    model, params, x = made
    run = jax.jit(lambda params, x: (model(params, x.astype(jnp.bfloat16)), model(params, x)))
    cells = name in ("rnn", "lstm", "gru", "sequence_classifier", "lstm_forecaster")  # they add in both precisions
    with jax.numpy_dtype_promotion("standard" if cells else "strict"):
        low, full = run(params, x)
    assert low.dtype == jnp.bfloat16
    if name != "perceptron":
        np.testing.assert_allclose(low.astype(jnp.float32), full, rtol=0.1, atol=0.15)


@pytest.mark.parametrize(
    "name", ["vgg", "resnet_cifar", "resnet_imagenet", "chain", "generator", "discriminator", "patchtst"]
)
def test_statistics_come_out_where_the_running_ones_belong(made):
    model, params, x = made
    trained, running = jann.split(model, params)
    apply = jax.jit(model.apply)
    _, statistics = apply(trained, x)
    assert jann.flatten(statistics).keys() == jann.flatten(running).keys()
    complete = jann.combine(trained, statistics)
    jann.check(model, complete)
    _, none = apply(complete, x)
    assert jann.flatten(none) == {} and jann.flatten(jann.combine(params, none)).keys() == jann.flatten(params).keys()


def test_training_keeps_the_running_statistics(key):
    """One step of the library's own objective: the first average is the batch's, whatever the model's nesting."""
    import optax

    pooled = chain(BatchNorm(1), jann.layers.global_average_pool, Linear(1, 3))
    for model in (VGG(1, 3, ((4,),)), ResNet(1, 3, (1,), (4,)), pooled):
        batch = {"image": jax.random.normal(key, (4, 4, 4, 1)), "label": jnp.array([0, 1, 2, 0])}
        step = jann.make_step(jann.objective(model), optax.sgd(0.1))
        before = jann.start(model, optax.sgd(0.1), key)
        after, _ = jax.jit(step)(before, batch)
        want = jann.flatten(model.apply(before.params, batch["image"])[1])
        got = jann.flatten(after.extra["statistics"].value)
        assert got.keys() == want.keys()
        for path in want:
            np.testing.assert_allclose(got[path], want[path], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (MLP(4, (5,), 3), MLP(4, (5, 3), 7)),
        (VGG(2, 3, ((3,),)), VGG(2, 3, ((3,), (4,)))),
        (ResNet(depths=(1,), widths=(4,)), ResNet(depths=(2,), widths=(4,))),
        (
            PatchTST(10, 3, 4, 3, embed=4, heads=2, hidden=5, layers=1),
            PatchTST(10, 3, 4, 3, embed=4, heads=2, hidden=5, layers=2),
        ),
        (chain(Linear(4, 5), Linear(5, 3)), chain(Linear(4, 5), Linear(5, 3), Linear(3, 2))),
        (parallel(Linear(4, 5)), parallel(Linear(4, 5), Linear(4, 2))),
    ],
)
def test_what_is_added_moves_no_other_start(small, large, key):
    """Parameters of the same path and shape start the same in both; that is all but the layers that changed."""
    small, large = (jann.flatten(jax.jit(model.init)(key)) for model in (small, large))
    kernels = [path for path in small if path.endswith("weight") and small[path].shape == large.get(path, 0.0).shape]
    assert kernels
    for path in kernels:
        np.testing.assert_array_equal(small[path], large[path])


def test_counts_of_the_papers():
    """Parameters without running statistics: torchvision's published counts and those of the CIFAR networks."""

    def trained(model):
        return sum(param.size for param in jann.flatten(model.spec()).values() if param.trained)

    assert trained(resnet20()) == 269_722
    assert trained(jann.models.resnet56()) == 853_018
    assert trained(jann.models.resnet18()) == 11_689_512
    assert trained(jann.models.resnet34()) == 21_797_672
    assert trained(jann.models.resnet50()) == 25_557_032
    assert trained(LeNet()) == 61_706
    assert trained(ConvNeXt()) == 28_589_128  # "T" of the paper, 29 million
    # configuration D of the paper, without batch norm
    widths = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
    vgg16 = VGG(3, 1000, widths, (4096, 4096), 224, batch_norm=False)
    assert trained(vgg16) == 138_357_544
