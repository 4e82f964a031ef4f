"""OpenVINO.

engine    engine `openvino`
genai     engine `openvino_genai`, over the same graph
device    OpenVINO's devices and their properties
compile   compiles a graph, with the memory of `mapped_weights` given back
decoding  decodes over an infer request
export    writes the model in OpenVINO's format
weights   quantizes its weights, and tells what it stores
"""
