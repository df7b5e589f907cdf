# make report | test | lab | notebooks: each sets up .venv first, on a machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: report test lab notebooks clean

report: .venv/ready
	$(BIN)/python -m ganlib report

test: .venv/ready
	$(BIN)/python -m pytest -q

lab: .venv/ready
	$(BIN)/jupyter lab notebooks

notebooks: .venv/ready
	$(BIN)/python notebooks/execute.py

# pip is upgraded first: the one that comes with an older Python cannot read some wheels' metadata
.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

clean:
	rm -rf .venv
