"""``make gpu-check``: is densessl right, exact, fast on this GPU, and does it learn there?

* ``check``     the command: its parts, its process and how it goes on where it stopped
* ``record``    what was measured, kept in gpu_check.json
* ``table``     the same as a Markdown table
* ``setting``   what every measurement is told, and the device's clock and memory
* ``models``    methods, batches and runs to be measured
* ``correct``   the tests marked ``gpu``, precisions, processes
* ``exact``     a killed and resumed run
* ``steps``     training steps: images/s, parts, memory, options
* ``kernels``   the DetCon loss and the updates
* ``jpegs``     loader workers and decoding on the GPU
* ``learns``    pretraining and the dense probe
"""
