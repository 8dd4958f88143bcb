"""Ratings as products of what users like and what items have."""

from jann.core import Model, Param
from jann.depth import tap
from jann.layers import embedding, embedding_spec, zeros
from jann.layers.initializers import normal


class MatrixFactorisation(Model):
    """mean + bias of the user + bias of the item + the user's factors · the item's.

    Koren, Bell and Volinsky 2009, "Matrix factorization techniques for recommender systems", IEEE Computer 42. Parts
    are taps, "user_bias", "item_bias", "user_factors" and "item_factors": that paper's regulariser is the sum of their
    squares for each rating.

    users, items:  how many there are
    features:      of the factors; with 0 there are only the biases
    """

    users: int
    items: int
    features: int = 100

    def spec(self):
        spec = {
            "mean": Param({}),
            "user_bias": embedding_spec(self.users, 1, zeros),
            "item_bias": embedding_spec(self.items, 1, zeros),
        }
        if self.features:
            spec["user_factors"] = embedding_spec(self.users, self.features, normal(0.1))
            spec["item_factors"] = embedding_spec(self.items, self.features, normal(0.1))
        return spec

    def apply(self, params, user, item, state=None, key=None):
        """user[...], item[...] integers -> rating[...]"""

        def rows(name, numbers):
            return tap(name, embedding(params[name], numbers))

        rating = params["mean"] + rows("user_bias", user)[..., 0] + rows("item_bias", item)[..., 0]
        if self.features:
            rating = rating + (rows("user_factors", user) * rows("item_factors", item)).sum(-1)
        return rating, state
