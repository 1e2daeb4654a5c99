"""`python -m torchstudy.cli`, for where `optimize` is not on the path."""

from torchstudy.cli import main

main()
