"""Pictures that tests of several rooms of curation hold lie beside this file."""
