# The node with its launch files on an official ROS 2 image; docs/docker.md describes its use. Not built yet.
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base

SHELL ["/bin/bash", "-c"]
WORKDIR /workspace
COPY package.xml src/lw_refinenet_ros/package.xml
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv make \
 && rosdep update --rosdistro "$ROS_DISTRO" \
 && rosdep install -y --from-paths src --ignore-src \
 && rm -rf /var/lib/apt/lists/*

# `make venv` sees ROS's packages and adds PyTorch, OpenVINO and a few more.
COPY . src/lw_refinenet_ros
RUN source "/opt/ros/$ROS_DISTRO/setup.bash" \
 && make -C src/lw_refinenet_ros venv \
 && source src/lw_refinenet_ros/.venv/bin/activate \
 && python -m pip install --no-cache-dir colcon-common-extensions \
      -c src/lw_refinenet_ros/requirements/constraints.txt \
 && python -m colcon build --packages-select lw_refinenet_ros

# Large images over Fast DDS: segmentation.launch.py sets the profile; run with --ipc=host or --shm-size=512m.
ENTRYPOINT ["/bin/bash", "-c", "source /opt/ros/$ROS_DISTRO/setup.bash && source install/setup.bash && exec ros2 launch lw_refinenet_ros segmentation.launch.py \"$@\"", "launch"]
