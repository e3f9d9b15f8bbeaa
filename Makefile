# make demo · make test · make lint · make bench · make gpu-check: each does all the set-up from a bare Python.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
QUICK  ?=
JOBS   ?= 2
PEERS  := .bench-venv

.PHONY: install demo test test-slow lint fidelity clean bench bench-masks bench-mask-store bench-input \
    bench-shards bench-loss bench-train bench-train-options bench-quality evidence gpu-check

install: $(STAMP)

# Installed anew only when what is to be installed has changed; wheels only, no compiler.
$(STAMP): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	    { echo "densessl needs Python 3.10 to 3.12, this is $$($(PYTHON) --version): make PYTHON=python3.11 …"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing densessl and what it needs into $(VENV) (several minutes the first time)"
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --editable '.[test]'
	@rm -rf densessl.egg-info   # left by the build; found from here it would hide the installed entry points
	@touch $(STAMP)

demo: install
	@$(BIN)/densessl demo $(if $(QUICK),--quick) --out work_dirs/demo$(if $(QUICK),_quick)

# JOBS test files at a time: each takes a core and up to 3 GiB of memory.
test: install
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test-slow: install
	@$(BIN)/python -m pytest -m slow --timeout 1800

lint: install
	@$(BIN)/ruff check .

# docs/fidelity.md: what is as its authors released it.
fidelity: install
	@$(BIN)/python docs/make_fidelity.py

bench: bench-masks bench-mask-store bench-input bench-shards bench-loss bench-train

# One table of all mask generators, and a picture in work_dirs/bench_masks.
bench-masks: install
	@$(BIN)/python benchmarks/masks.py
	@$(BIN)/python benchmarks/mask_gallery.py

bench-mask-store: install
	@$(BIN)/python benchmarks/mask_store.py

# The input pipeline beside lightly and torchvision; a peer that cannot be installed is named.
bench-input: $(PEERS)/.installed
	@$(PEERS)/bin/python benchmarks/input.py $(if $(IMAGES),--images $(IMAGES))

bench-shards: install
	@$(BIN)/python benchmarks/tar_shards.py $(if $(IMAGES),--images $(IMAGES))

bench-loss: install
	@$(BIN)/python benchmarks/detcon_loss.py

bench-train: install
	@$(BIN)/python benchmarks/train_loop.py
	@$(BIN)/python benchmarks/startup.py
	@$(BIN)/python benchmarks/waiting.py

bench-train-options: install
	@$(BIN)/python benchmarks/train_options.py

# Right, exact and fast on this GPU, and learning there: docs/gpu.md.
gpu-check: install
	@$(BIN)/python tools/gpu_check.py $(if $(DATA),--data $(DATA)) $(if $(PROBE),--probe $(PROBE)) \
	    $(if $(PARTS),--parts $(PARTS))

# Lightly's methods beside ours, at equal CPU time; hours, so it is not part of `make bench`.
bench-quality: $(PEERS)/.installed
	@$(PEERS)/bin/python benchmarks/time_to_quality.py --jobs $(JOBS) $(if $(DATA),--data $(DATA))

# docs/evidence.md and the README's table, from what is kept in studies/results.
evidence: install
	@$(BIN)/densessl study studies/table1.yaml --write-docs

# Peers live in an environment of their own, on top of ours, and never become a dependency.
$(PEERS)/.installed: $(STAMP)
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -c 'import sysconfig, pathlib; here = sysconfig.get_path("purelib"); \
	    theirs = here.replace("$(PEERS)", "$(VENV)"); \
	    pathlib.Path(here, "ours.pth").write_text(f"import site; site.addsitedir({theirs!r})")'
	@$(PEERS)/bin/python -m pip install --quiet lightly || echo "lightly cannot be installed here"
	@$(PEERS)/bin/python -m pip install --quiet kornia || echo "kornia cannot be installed here"
	@touch $(PEERS)/.installed

clean:
	rm -rf $(VENV) $(PEERS) build *.egg-info .pytest_cache .ruff_cache
