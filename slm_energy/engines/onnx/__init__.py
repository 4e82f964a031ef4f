"""ONNX Runtime, and ONNX Runtime GenAI over the same graph.

engine               engine `onnx`
genai                engine `onnxruntime_genai`
session              decoding over ONNX Runtime's own session
providers            execution providers; `tensorrt` for NVIDIA's
export               makes the graph: `export_optimum`, `export_transformers`, `simplify`
external_data        weights beside the graph
"""
