import pytest
import torch

from bec_mace.devices import DTYPES, find_device
from bec_mace.errors import ModelError


def test_auto_is_a_gpu_where_there_is_one():
    assert find_device("auto", ModelError) == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu", ModelError) == "cpu"


@pytest.mark.parametrize("name", ["cuda:77", "gpu"])
def test_a_device_that_torch_cannot_use_is_named(name):
    with pytest.raises(ModelError, match=f"--device {name}: torch cannot use it .*; use cpu or auto"):
        find_device(name, ModelError, "--device")


def test_precisions():
    assert DTYPES == {"float32": torch.float32, "float64": torch.float64}
