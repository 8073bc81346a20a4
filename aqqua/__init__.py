"""aqqua: self-supervised, native-resolution foundation models for plankton images.

The way of the data: instruments → store → plan → render → model → objective → train →
evaluate. Importing this package imports none of them: `aqqua --help` answers at once.

Letter key of the whole project (array names end in it, `q_THE`): T tokens in a pack · V views
(sequences) in a pack · I images in a pack · N patch rows in a pack · F values in a patch row
(P·P·C) · D width · H heads · E head width · K prototypes · M masked tokens · P patch side ·
C channels · L layers.
"""

__version__ = "0.1.0"
