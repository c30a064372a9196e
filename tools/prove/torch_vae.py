"""PyTorch's own example of a variational autoencoder, on PyTorch, with its usual data loader.

The network, the loss (summed over pixels and latents), Adam at 0.001, batches of 128 and ten epochs are those of
pytorch/examples; as there, torchvision turns each digit from a picture into a tensor whenever it is read.
"""

import time

import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision import transforms

from course_utils.data import N_VALIDATION, read_verified


class Digits(torch.utils.data.Dataset):
    """Pictures in bytes, turned into tensors one by one, as torchvision's own MNIST does."""

    def __init__(self, pictures):
        self.pictures = pictures
        self.transform = transforms.ToTensor()

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.transform(Image.fromarray(self.pictures[index]))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.mu, self.log_var = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.up, self.pixels = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x):
        h = functional.relu(self.hidden(x))
        mu, log_var = self.mu(h), self.log_var(h)
        z = mu + torch.randn_like(mu) * torch.exp(log_var / 2)
        return torch.sigmoid(self.pixels(functional.relu(self.up(z)))), mu, log_var


def nelbo(x, x_hat, mu, log_var):
    """−ELBO in nats, summed over the batch."""
    kl = 0.5 * torch.sum(mu**2 + log_var.exp() - 1 - log_var)
    return functional.binary_cross_entropy(x_hat, x, reduction="sum") + kl


def train_vae(seed: int, epochs: int) -> tuple[float, float]:
    """Train on the 55,000 training digits; return −ELBO per test digit in nats, and the seconds of the training."""
    torch.manual_seed(seed)
    arrays = read_verified("mnist.npz", "x_train", "x_test")
    digits = Digits(arrays["x_train"][:-N_VALIDATION])
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = time.perf_counter()
    for _ in range(epochs):
        for x in torch.utils.data.DataLoader(digits, batch_size=128, shuffle=True):
            x = x.view(-1, 784)
            optimizer.zero_grad()
            nelbo(x, *model(x)).backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    x_test = torch.from_numpy(arrays["x_test"]).view(-1, 784) / 255
    with torch.no_grad():
        return float(nelbo(x_test, *model(x_test))) / len(x_test), seconds
