"""OpenVINO.

engine    engine `openvino`
session   compiling, and decoding over an infer request
export    writes the model in OpenVINO's format
"""
