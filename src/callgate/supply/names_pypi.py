"""Names of PyPI packages that others imitate: the most downloaded ones, and MCP servers.

Compiled from the download ranks of October 2026, the first few hundred, and servers by name. That a name is
in this list promises nothing: it is what look-alikes are measured against.
"""

from __future__ import annotations

from typing import Final

AS_OF: Final = "2026-11-22"
SOURCE: Final = "rank by downloads of the Python Package Index, and MCP servers known by name"

NAMES: Final = frozenset(
    # One a line would be pages.
    """
aiobotocore aiofiles aiohappyeyeballs aiohttp aioitertools aiosignal alembic analytics-mcp annotated-doc
annotated-types anthropic anyio arcade-mcp arcade-mcp-server arxiv-mcp-server asgiref asn1crypto
astro-airflow-mcp asttokens async-timeout attrs authlib autogen awscli
awslabs-amazon-bedrock-agentcore-mcp-server awslabs-aws-api-mcp-server awslabs-aws-dataprocessing-mcp-server
awslabs-aws-documentation-mcp-server awslabs-aws-iac-mcp-server awslabs-aws-location-mcp-server
awslabs-aws-pricing-mcp-server awslabs-bedrock-kb-retrieval-mcp-server
awslabs-billing-cost-management-mcp-server awslabs-cloudwatch-mcp-server awslabs-eks-mcp-server
awslabs-memcached-mcp-server awslabs-redshift-mcp-server azure-core azure-identity azure-storage-blob babel
backoff basic-memory bcrypt beautifulsoup4 black blender-mcp blinker boto3 botocore browser-use build
cachecontrol cachetools ccxt certifi cffi cfgv chardet charset-normalizer chroma-mcp cli-mcp-server click
cloudpickle colorama contourpy coverage crewai cryptography cycler cython databricks-mcp databricks-sdk
databricks-sql-connector datasets dbt-adapters dbt-core dbt-mcp dcc-mcp-core debugpy decorator defusedxml
deprecated dill discord-py distlib distro django django-mcp-server dnspython docker docstring-parser docutils
duckduckgo-mcp duckduckgo-mcp-server durationpy editables elevenlabs-mcp email-validator et-xmlfile
excel-mcp-server exceptiongroup execnet executing fast-agent-mcp fastapi fastapi-mcp fastjsonschema fastmcp
filelock flask fonttools frozenlist fsspec gcsfs gitdb gitpython google-analytics-admin google-api-core
google-api-python-client google-auth google-auth-httplib2 google-auth-oauthlib google-cloud-aiplatform
google-cloud-batch google-cloud-bigquery google-cloud-compute google-cloud-core google-cloud-dlp
google-cloud-kms google-cloud-pubsub google-cloud-secret-manager google-cloud-speech google-cloud-storage
google-cloud-texttospeech google-crc32c google-genai google-resumable-media googleapis-common-protos gradio
graphiti-core greenlet grpc-google-iam-v1 grpcio grpcio-status grpcio-tools gunicorn h11 h2 ha-mcp ha-mcp-dev
harbormaster-mcp hatchling hf-xet hpack httpcore httplib2 httptools httpx httpx-sse huggingface-hub hyperframe
identify idna importlib-metadata importlib-resources iniconfig ipython isodate itsdangerous jaraco-classes
jaraco-context jaraco-functools jcodemunch-mcp jedi jeepney jinja2 jiter jmespath joblib joserfc jsonpatch
jsonpointer jsonschema jsonschema-specifications keyring kiwisolver kubernetes kubernetes-mcp-server langchain
langchain-core langchain-mcp-adapters lean-lsp-mcp librt linkedin-scraper-mcp litellm llama-cloud-services
llama-index-tools-mcp llama-parse lxml mako markdown markdown-it-py markitdown-mcp markupsafe marshmallow
matplotlib matplotlib-inline mcp mcp-atlassian mcp-clickhouse mcp-grafana mcp-neo4j-cypher mcp-neo4j-memory
mcp-obsidian mcp-ocr mcp-proxy mcp-proxy-for-aws mcp-run-python mcp-scholarly mcp-server mcp-server-browser-use
mcp-server-calculator mcp-server-docker mcp-server-duckdb mcp-server-fetch mcp-server-git mcp-server-kubernetes
mcp-server-motherduck mcp-server-qdrant mcp-server-sentry mcp-server-sqlite mcp-server-time mcp-stata
mcp-text-editor mcp-use mcp-yahoo-finance mdurl mem0ai mfa-servicenow-mcp minimax-coding-plan-mcp minimax-mcp
more-itertools mpmath msal msal-extensions msgpack multidict multiprocess mypy mypy-extensions
mysql-connector-python mysql-mcp-server nest-asyncio networkx nodeenv notebooklm-mcp-cli numpy nvidia-nat-mcp
oauthlib office-powerpoint-mcp-server office-word-mcp-server openai openinference-instrumentation-mcp openpyxl
opensearch-mcp-server-py opentelemetry-api opentelemetry-exporter-otlp opentelemetry-exporter-otlp-proto-common
opentelemetry-exporter-otlp-proto-grpc opentelemetry-exporter-otlp-proto-http opentelemetry-instrumentation
opentelemetry-instrumentation-mcp opentelemetry-instrumentation-requests opentelemetry-proto opentelemetry-sdk
opentelemetry-semantic-conventions opentelemetry-util-http orjson packaging pagerduty-mcp pandas pandas-stubs
paramiko parso pathspec pdf-tools-mcp pexpect pillow pip pipx platformdirs playwright pluggy poetry poetry-core
postgres-mcp pre-commit prometheus-client prompt-toolkit propcache proto-plus protobuf psutil psycopg2
psycopg2-binary ptyprocess pure-eval py4j pyarrow pyasn1 pyasn1-modules pycparser pydantic pydantic-ai
pydantic-ai-slim pydantic-core pydantic-graph pydantic-settings pyee pygments pyjwt pymongo pymupdf4llm-mcp
pynacl pyopenssl pyparsing pyproject-hooks pytest pytest-asyncio pytest-cov pytest-json-ctrf pytest-xdist
python-dateutil python-discovery python-dotenv python-json-logger python-multipart python-telegram-bot pytz
pyyaml pyzmq qdrant-client rapidfuzz redis redis-mcp-server referencing regex requests requests-oauthlib
requests-toolbelt rich rootly-mcp-server rpds-py rsa ruamel-yaml ruff s3fs s3transfer scikit-learn scipy
secretstorage selenium semgrep-mcp sentry-sdk serena-agent setuptools setuptools-scm sglang shellingham six
smmap sniffio snowflake-connector-python snowflake-labs-mcp sortedcontainers soupsieve sqlalchemy sqlparse
sse-starlette stack-data starlette streamlit sympy tabulate telethon tenacity tensorflow termcolor textual
threadpoolctl tiktoken tilt-mcp tokenizers toml tomli tomlkit torch tornado tqdm traitlets transformers
tree-sitter trove-classifiers typer types-requests typing-extensions typing-inspect typing-inspection tzdata
tzlocal uipath-mcp uritemplate urllib3 uv uvicorn uvloop vcs-versioning virtualenv watchdog watchfiles wcwidth
weaviate-client web3 webencodings websocket-client websockets werkzeug wheel workspace-mcp wrapt xmltodict
xxhash yarl ydb zipp zotero-mcp-server zstandard
""".split()  # noqa: SIM905
)
