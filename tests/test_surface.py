"""The public names, and what importing them costs."""

import subprocess
import sys

import torchstudy


def test_the_public_names_are_these() -> None:
    assert set(torchstudy.__all__) == {
        "Augmentation",
        "Autoencoder",
        "AutoencoderProbe",
        "Batch",
        "CNN",
        "Choice",
        "DataError",
        "DataSpec",
        "Denoiser",
        "Family",
        "Fit",
        "Float",
        "FrozenEncoder",
        "GAN",
        "Images",
        "Int",
        "Interrupted",
        "LinearModel",
        "MLP",
        "MultiInput",
        "Phase",
        "PretrainedEncoder",
        "Preprocessing",
        "Results",
        "RunError",
        "SavedModel",
        "SearchSpace",
        "SpaceError",
        "Split",
        "Study",
        "StudyChanged",
        "StudyClaimed",
        "StudyError",
        "TorchstudyError",
        "TrainingConfig",
        "Transfer",
        "export_model",
        "family",
        "load_model",
        "load_study",
        "read_results",
        "register_backbone",
        "run",
        "tune",
        "write_report",
    }


def test_every_public_name_is_there_and_documented() -> None:
    for name in torchstudy.__all__:
        assert getattr(torchstudy, name).__doc__, name
    assert set(torchstudy.__all__) < set(dir(torchstudy))


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, torchstudy; torchstudy.Float; torchstudy.StudyError;"
        "print([m for m in ('torch', 'ax', 'pandas', 'plotly', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
