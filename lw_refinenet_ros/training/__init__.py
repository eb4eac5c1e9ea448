# SPDX-License-Identifier: Apache-2.0
"""Training and fine-tuning on a folder of images and masks."""
