"""A trained network as a file that other programs run: ONNX, TorchScript, torch.export, safetensors."""

from octoscale.export.export import FORMS, Exported, Form, export

__all__ = ["FORMS", "Exported", "Form", "export"]
