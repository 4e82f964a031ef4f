"""ONNX Runtime, and ONNX Runtime GenAI over the same graph.

engine               engine `onnx`
genai                engine `onnxruntime_genai`
session              decoding through an ONNX Runtime session
providers            execution providers
builder              the graph of GenAI's own model builder
tensorrt             engines for the TensorRT provider
export               makes the graph: `export_fused`, `export_optimum`, ...
weights              quantizes its weights, and tells what it stores
external_data        weights in a file beside the graph
"""
