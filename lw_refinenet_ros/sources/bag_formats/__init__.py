# SPDX-License-Identifier: Apache-2.0
"""The files of a bag, whole or damaged: rosbag2 (sqlite3, mcap) and ROS 1."""
