"""What a checkpoint's files hold, told from their headers, beside what a config says that they should hold.

``tensors`` lists a model's tensors by name and shape, ``quantised`` how quantised ones are stored, ``comparing`` holds
a file against that list. No torch, no weights.
"""
