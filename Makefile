.PHONY: fmt lint types test notebooks docs explorer

fmt:
	ruff check --fix .
	ruff format .

lint:
	ruff check .
	ruff format --check .

# conversion/ is the package laion_zarr.conversion: mypy gets the tree as it is installed.
types:
	tree=$$(mktemp -d) && cp -r laion_zarr $$tree/ && cp -r conversion $$tree/laion_zarr/ && \
	cp pyproject.toml $$tree/ && cd $$tree && mypy && rm -r $$tree

test:
	pytest -n auto

# Top to bottom; what they draw is thrown away.
notebooks:
	jupyter execute --timeout=300 notebooks/*.ipynb

# Strict: what Sphinx warns of, such as a link that leads nowhere, is an error.
docs:
	sphinx-build -W --keep-going -q -b html -c docs . build/site

# The explorer's page, into the package; needs Node. The same sources give the same files.
explorer:
	python explorer/names.py > explorer/src/names.ts
	cd explorer && npm ci --silent && npm run --silent build
