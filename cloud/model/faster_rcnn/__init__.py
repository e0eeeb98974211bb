"""The family `faster-rcnn-resnet18`, the reference, and the ResNet-101 teacher that is built the same way."""
