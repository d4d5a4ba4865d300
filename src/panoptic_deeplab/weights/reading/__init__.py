"""Files of weights, read without running what is in them: safetensors, PyTorch's pickles under restriction, protobuf.

Which model a file belongs to is not known here.
"""
