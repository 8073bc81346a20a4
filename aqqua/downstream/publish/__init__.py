"""Answers in the forms that others read: EcoTaxa, IFCB dashboards, OBIS and GBIF, tables, ONNX."""
