# SPDX-License-Identifier: Apache-2.0
"""One module per command.

Each defines `add_arguments(parser)`; `run(options)`, which returns the exit status, None for 0; and, if it
writes files, `outputs(options)`, which declares those that it will write and those that it reads.
"""
