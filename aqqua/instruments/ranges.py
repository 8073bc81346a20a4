"""What a value of a Record can be; outside it is a mistake. Readers and the store use the same limits.

µm/px has its limits in aqqua.instruments.registry, which checks its own facts by them.
"""

LATITUDE = (-90.0, 90.0)  # degrees north
LONGITUDE = (-180.0, 180.0)  # degrees east
DEPTH_M = (-50.0, 12_000.0)  # waves and pressure offsets above, Challenger Deep 10,935 m below
VOLUME_L = (1e-9, 1e12)  # a nanolitre to a cubic kilometre
APHIA_ID = (1, 2**31 - 1)  # WoRMS counts from 1; the store keeps 32 bits
