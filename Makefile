# make report | test | lab | lint | notebooks | bench | large | fuzz | weights | cited | ablation | discriminators | handout:
# each sets up .venv first, on a machine with Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: report test lab lint notebooks bench large fuzz weights cited ablation discriminators handout clean

report: .venv/ready
	$(BIN)/python -m ganlib report

test: .venv/ready
	$(BIN)/python -m pytest -q -n 3 --dist loadfile

lab: .venv/ready
	$(BIN)/jupyter lab notebooks

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

notebooks: .venv/ready
	$(BIN)/python notebooks/execute.py

# Speed and memory beside CompressAI's models and Pillow's codecs; make bench ARGS=--profile: where the time goes.
# A machine at rest gives figures worth quoting. Not part of make test.
bench: .venv/ready .bench/ready
	$(BIN)/python tests/benchmarks/bench.py $(ARGS)

# A picture of 100 megapixels: seconds, memory, a region, a damaged tile.
large: .venv/ready
	$(BIN)/python tests/benchmarks/large.py $(ARGS)

# The shipped model from a cold start, with the committed configuration:
#     make weights DATA="DIR..."
# On a GPU with FLAGS="--batch 32" and fewer hours: the shipped weights took HOURS_ONE=0.118056 on an H100. PROCESSES=N for
# N GPUs, or for N cores without one, where each process takes one (FLAGS="--batch 4": crops of each). After Ctrl-C or
# worse the same command goes on. HOURS_TWO=N adds stage two, against a discriminator; until it has begun, HOURS_ONE
# prolongs stage one, and then stage two refuses other weights than it began with: remove $(RUNS)/adversarial to begin it
# anew. The weights that are replaced move to $(WEIGHTS)/earlier, so that their files still decode. When all is done,
# make discriminators follows: those that are shipped must know the new generator.
HOURS_ONE ?= 16
HOURS_TWO ?=
PRESET ?= light
RUNS ?= runs/weights
WEIGHTS ?= data/weights
LAST = $(if $(HOURS_TWO),adversarial,rate-distortion)
START = $(if $(PROCESSES),$(BIN)/torchrun --nproc-per-node $(PROCESSES),$(BIN)/python) -m ganlib train
TRAIN = $(START) --preset $(PRESET) --data $(DATA) $(if $(VALIDATION),--validation $(VALIDATION))

weights: .venv/ready
	@test -n "$(DATA)" || { echo 'usage: make weights DATA="DIR..." [HOURS_ONE=$(HOURS_ONE)] [HOURS_TWO=N] [PROCESSES=N] [VALIDATION=DIR]'; exit 2; }
	$(TRAIN) --out $(RUNS)/rate-distortion --hours $(HOURS_ONE) --decay 0.6 $(FLAGS)
ifdef HOURS_TWO
	$(TRAIN) --out $(RUNS)/adversarial --hours $(HOURS_TWO) --stage adversarial --init $(RUNS)/rate-distortion/weights.safetensors $(FLAGS)
endif
	$(BIN)/python -m ganlib.cli.ship $(RUNS)/$(LAST)/weights.safetensors $(WEIGHTS)/$(PRESET).safetensors

# The five cited models and ours in miniature, trained in turn and set beside each other, about four hours on two cores:
#     make cited DATA="DIR..." [IMAGES=KODAK]
# After Ctrl-C or worse the same command goes on.
cited: .venv/ready
	@test -n "$(DATA)" || { echo 'usage: make cited DATA="DIR..." [IMAGES=DIR]'; exit 2; }
	$(BIN)/python -m ganlib.cli.cited $(DATA) $(if $(IMAGES),--images $(IMAGES))

# What LPIPS and the adversary buy: four generators from the same weights, an hour on two quiet cores:
#     make ablation DATA="DIR..." IMAGES=DIR [INIT=WEIGHTS_OF_STAGE_ONE] [DISCRIMINATOR=FILE] [STEPS=...]
# After Ctrl-C or worse the same command goes on.
ablation: .venv/ready
	@test -n "$(DATA)" -a -n "$(IMAGES)" || { echo 'usage: make ablation DATA="DIR..." IMAGES=DIR [INIT=FILE] [DISCRIMINATOR=FILE] [STEPS=N]'; exit 2; }
	$(BIN)/python -m ganlib.cli.ablation $(DATA) --images $(IMAGES) $(if $(INIT),--init $(INIT)) $(if $(DISCRIMINATOR),--discriminator $(DISCRIMINATOR)) $(if $(STEPS),--steps $(STEPS))

# The discriminators that the course's stage two begins with, 8 minutes on two cores that multiply in bf16, up to 45 on others:
#     make discriminators DATA="DIR..." [IMAGES=DIR]
# To be run again whenever a shipped model changes. After Ctrl-C or worse the same command goes on.
discriminators: .venv/ready
	@test -n "$(DATA)" || { echo 'usage: make discriminators DATA="DIR..." [IMAGES=DIR]'; exit 2; }
	$(BIN)/python -m ganlib.cli.discriminator $(DATA) $(if $(IMAGES),--images $(IMAGES))

# What students get: the project as it is committed, without solutions and tests.
handout:
	git archive --prefix=ganlib-course/ --output=ganlib-course.zip \
		$(foreach file,$(wildcard notebooks/solutions/*.py),'--add-virtual-file=ganlib-course/$(file):# Your teacher has the answers.') \
		HEAD -- . ':!notebooks/solutions' ':!notebooks/ANSWERS.md' ':!tests'

# Damaged and forged .gic files, as many as fit into the time; those that fail stay in tests/codec/fuzz_corpus/.
MINUTES ?= 60
fuzz: .venv/ready
	$(BIN)/python tests/codec/fuzzer.py --minutes $(MINUTES) $(ARGS)

# pip is upgraded first: the one that comes with an older Python cannot read some wheels' metadata
.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=...')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

# CompressAI needs an older NumPy than ganlib does, hence an environment of its own (another 5 GB, mostly torch)
.bench/ready: tests/benchmarks/requirements.txt
	$(PYTHON) -m venv .bench
	.bench/bin/python -m pip install --quiet --upgrade pip
	.bench/bin/python -m pip install --quiet --requirement tests/benchmarks/requirements.txt
	touch $@

clean:
	rm -rf .venv .bench
