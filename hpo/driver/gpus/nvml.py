"""What NVIDIA's management library says of this machine, without torch."""

from __future__ import annotations


def gpu_names() -> list[str]:
    """The names of the GPUs; [] where there is no driver, or no library."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []


def driver_version() -> str:
    """The version of the driver of the GPUs that `gpu_names` has found.

    Raises:
        ImportError: the package nvidia-ml-py is not installed.
    """
    import pynvml

    return _text(pynvml.nvmlSystemGetDriverVersion())


def _text(value: str | bytes) -> str:
    """Older versions of the library give bytes."""
    return value.decode() if isinstance(value, bytes) else value
