"""DICOM files as a hospital sends them: bytes -> the grey image that a reader would see."""
