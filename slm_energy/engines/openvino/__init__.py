"""OpenVINO.

engine    engine `openvino`
genai     engine `openvino_genai`, over the same graph
session   compiling, and decoding over an infer request
export    writes the model in OpenVINO's format
weights   quantizes its weights, and tells what it stores
"""
