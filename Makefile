.PHONY: fmt lint types test notebooks docs explorer dist

fmt:
	ruff check --fix .
	ruff format .

lint:
	ruff check .
	ruff format --check .

# conversion/ is the package laion_zarr.conversion: mypy gets the tree as it is installed. The script of a
# user is checked beside it, as an editor does, with the types that it says it gets.
types:
	tree=$$(mktemp -d) && cp -r laion_zarr $$tree/ && cp -r conversion $$tree/laion_zarr/ && \
	cp pyproject.toml tests/house/typed_script.py $$tree/ && cd $$tree && mypy && mypy typed_script.py && \
	pyright --project pyproject.toml && rm -r $$tree

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

# A wheel and a source distribution; each is installed alone, and must have every public name. Needs `build`.
dist:
	rm -rf dist build/lib build/user
	python -m build > build.log 2>&1 || (cat build.log && false)
	rm build.log
	for distribution in dist/*.whl dist/*.tar.gz; do \
		python -m venv --clear build/user && build/user/bin/pip install -q $$distribution && \
		build/user/bin/python tests/house/public_names.py || exit 1; \
	done
