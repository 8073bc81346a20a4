"""What a run costs before it runs: pure formulas of a config, a size histogram and a few stated facts.

    facts.yaml, facts.py   peaks, memory, links, shares: each measured, published or assumed, with its source
    tokens.py              tokens of an image by role: planned from a dataset, of a named histogram, or 224/98
    parameters.py flops.py what a model holds and computes, module by module
    activations.py         what a pack keeps for its backward pass
    traffic.py             bytes moved, op by op
    engines.py memory.py   the plain engine and ZeRO 1 to 3: bytes on a GPU
    collectives.py         seconds of ring collectives in a node and between nodes
    work.py                what a step computes, holds and moves: all of the above together
    step.py                seconds of a step, of communication, and of what is exposed of it
    estimate.py            all of it for a run; blockers.py: what stands in its way; table.py: for people
    measure.py             a few real steps here, beside what is predicted of them

No torch here but through the configs, no device, no random number. Letter key: T tokens, n tokens of a view,
V views, I images, D width, H heads, E head width, F hidden width, L layers, K prototypes, Z bottleneck, P
parameters, M masked patches. Explained for people: docs/cost.md. Tests: tests/cost.
"""
