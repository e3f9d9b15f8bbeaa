"""Facts about the machine and the installed software, for reports."""
from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path

import densessl
from densessl.machine.cores import cores


def machine_facts() -> dict[str, str]:
    """Processor, accelerator, memory and system, in words."""
    import torch
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    memory = (os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 30
              if hasattr(os, 'sysconf') else None)
    facts = {'processor': f'{_processor()}, {cores()} cores used',
             'accelerator': ', '.join(gpus) or 'none',
             'memory': f'{memory:.0f} GiB' if memory else 'unknown',
             'system': f'{platform.system()} {platform.machine()}'}
    if hasattr(os, 'getloadavg'):
        facts['load when the report was written'] = (
            f'{os.getloadavg()[2]:.1f} processes waiting for a core, mean of 15 minutes')
    return facts


def versions() -> dict[str, str]:
    """Versions of Python, of densessl and of what it requires, by distribution."""
    found = {'Python': platform.python_version(), 'densessl': densessl.__version__}
    for requirement in metadata.requires('densessl') or []:
        name = re.match(r'[\w.-]+', requirement)[0]
        if 'extra ==' not in requirement:
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = 'not installed'
    return found


def _processor() -> str:
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.exists():
        model = re.search(r'model name\s*:\s*(.+)', cpuinfo.read_text())
        if model:
            return model[1].strip()
    return platform.processor() or 'unknown processor'
