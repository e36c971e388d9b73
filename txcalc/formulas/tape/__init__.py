"""Memory of a block, operator by operator: what torch allocates, keeps for the backward pass, and frees.

Read ``core`` (the tape) and ``operators`` first, then ``walk``, ``products`` and ``attention``, ``feed_forward`` and
``experts``, ``blocks``; ``ends`` is what stands before the first and after the last layer.
"""
