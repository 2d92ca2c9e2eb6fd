"""Names of npm packages that others imitate: the most downloaded ones, and MCP servers.

Compiled from the download counts of October 2026, the first few hundred, and servers by name. That a name is
in this list promises nothing: it is what look-alikes are measured against.
"""

from __future__ import annotations

from typing import Final

AS_OF: Final = "2026-11-22"
SOURCE: Final = "monthly downloads as the npm registry counts them, and MCP servers known by name"

NAMES: Final = frozenset(
    # One a line would be pages.
    """
@a-bonus/google-docs-mcp @aashari/mcp-server-atlassian-jira @ag-ui/mcp-apps-middleware
@agentdeskai/browser-tools-mcp @ai-sdk/mcp @amap/amap-maps-mcp-server @antfu/ni @anthropic-ai/claude-code
@anthropic-ai/mcpb @anthropic-ai/sdk @antv/mcp-server-chart @apify/actors-mcp-server
@atlassian-dc-mcp/bitbucket @atlassian-dc-mcp/confluence @atlassian-dc-mcp/jira @aws-sdk/types
@azure-devops/mcp @azure/mcp @babel/code-frame @babel/compat-data @babel/core @babel/generator
@babel/helper-compilation-targets @babel/helper-globals @babel/helper-module-imports
@babel/helper-module-transforms @babel/helper-plugin-utils @babel/helper-string-parser
@babel/helper-validator-identifier @babel/helper-validator-option @babel/helpers @babel/parser @babel/runtime
@babel/template @babel/traverse @babel/types @backstage/plugin-mcp-actions-backend @benborla29/mcp-server-mysql
@brave/brave-search-mcp-server @brightdata/mcp @browsermcp/mcp @circleci/mcp-server-circleci @claude-flow/mcp
@clerk/mcp-tools @cloudbase/cloudbase-mcp @cloudflare/mcp-server-cloudflare @cloudflare/playwright-mcp
@cocal/google-calendar-mcp @composio/mcp @currents/mcp @cyanheads/git-mcp-server @drawio/mcp
@dynatrace-oss/dynatrace-mcp-server @elementor/editor-mcp @eslint/eslintrc @eslint/js @eslint/mcp
@executeautomation/playwright-mcp-server @expo/mcp-tunnel @forestadmin/mcp-server @gleanwork/mcp-config-schema
@gongrzhe/server-gmail-autoauth-mcp @google-cloud/cloud-run-mcp @google-cloud/gcloud-mcp
@google-cloud/observability-mcp @google/gemini-cli @heroku/mcp-server @hono/mcp @hubspot/mcp-server
@instantdb/mcp @isaacs/cliui @ivotoby/openapi-mcp-server @jest/schemas @jest/types @jridgewell/gen-mapping
@jridgewell/resolve-uri @jridgewell/sourcemap-codec @jridgewell/trace-mapping @kimuson/modular-mcp
@kubb/plugin-mcp @langchain/mcp-adapters @larksuiteoapi/lark-mcp @launchdarkly/mcp-server @mapbox/mcp-server
@mastra/mcp @mastra/mcp-docs-server @mcp-b/global @mcp-b/transports @mcp-b/webmcp-polyfill @mcp-b/webmcp-ts-sdk
@mcp-b/webmcp-types @mcp-ui/client @mcp-ui/server @mcp-use/cli @mcp-use/inspector
@mcp-use/modelcontextprotocol-sdk @metorial/mcp-sdk-utils @metorial/mcp-server-sdk @metorial/mcp-session
@mintlify/mcp @mobilenext/mobile-mcp @modelcontextprotocol/conformance @modelcontextprotocol/ext-apps
@modelcontextprotocol/inspector @modelcontextprotocol/inspector-cli @modelcontextprotocol/inspector-client
@modelcontextprotocol/inspector-server @modelcontextprotocol/sdk @modelcontextprotocol/server-aws-kb-retrieval
@modelcontextprotocol/server-brave-search @modelcontextprotocol/server-everart
@modelcontextprotocol/server-everything @modelcontextprotocol/server-filesystem
@modelcontextprotocol/server-gdrive @modelcontextprotocol/server-github @modelcontextprotocol/server-gitlab
@modelcontextprotocol/server-google-maps @modelcontextprotocol/server-memory
@modelcontextprotocol/server-postgres @modelcontextprotocol/server-puppeteer @modelcontextprotocol/server-redis
@modelcontextprotocol/server-sequential-thinking @modelcontextprotocol/server-slack
@mondaydotcomorg/atp-mcp-adapter @mondaydotcomorg/monday-api-mcp @mui/mcp @netlify/mcp
@nexus2520/bitbucket-mcp-server @nodelib/fs.scandir @nodelib/fs.stat @nodelib/fs.walk
@notionhq/notion-mcp-server @nuxtjs/mcp-toolkit @octokit/rest @openai/codex @openai/codex-shell-tool-mcp
@openbnb/mcp-server-airbnb @opentelemetry/core @orval/mcp @pandacss/mcp @payloadcms/plugin-mcp
@perplexity-ai/mcp-server @pinecone-database/mcp @piotr-agier/google-drive-mcp @playwright/mcp
@postman/postman-mcp-server @radix-ui/react-slot @railway/mcp-server @react-grab/mcp
@redocly/mcp-typescript-sdk @rekog/mcp-nest @remotion/mcp @roychri/mcp-server-asana @salesforce/mcp
@salesforce/mcp-provider-api @salesforce/mcp-provider-aura-experts @salesforce/mcp-provider-code-analyzer
@salesforce/mcp-provider-devops @salesforce/mcp-provider-dx-core @salesforce/mcp-provider-lwc-experts
@salesforce/mcp-provider-metadata-enrichment @salesforce/mcp-provider-mobile-web
@salesforce/mcp-provider-scale-products @sentry/mcp-server @shopify/dev-mcp @shortcut/mcp @sinclair/typebox
@skanda-yutori/mcp-send-email @slack/web-api @smithery/cli @smithy/is-array-buffer @smithy/types
@smithy/util-buffer-from @smithy/util-utf8 @socotra/modelcontextprotocol-sdk @softeria/ms-365-mcp-server
@storybook/addon-mcp @storybook/mcp @stripe/mcp @supabase/mcp-server-supabase @supabase/mcp-utils
@supabase/supabase-js @sveltejs/mcp @testsprite/testsprite-mcp @theia/ai-mcp @traceloop/instrumentation-mcp
@types/estree @types/json-schema @types/node @types/react @types/yargs @typescript-eslint/eslint-plugin
@typescript-eslint/parser @typescript-eslint/scope-manager @typescript-eslint/type-utils
@typescript-eslint/types @typescript-eslint/typescript-estree @typescript-eslint/utils
@typescript-eslint/visitor-keys @upstash/context7-mcp @vercel/mcp-adapter @voltagent/mcp-server
@winor30/mcp-server-datadog @wonderwhy-er/desktop-commander @wong2/mcp-cli @z_ai/mcp-server
@zereight/mcp-gitlab @zuplo/mcp accepts acorn agent-base agentation-mcp airtable-mcp-server ajv ansi-escapes
ansi-regex ansi-styles anymatch arg argocd-mcp argparse async asynckit axios backlog-mcp-server balanced-match
base64-js better-sqlite3 body-parser brace-expansion braces browserslist buffer bytes call-bind
call-bind-apply-helpers call-bound callsites camelcase caniuse-lite chalk chokidar chrome-devtools-mcp ci-info
cli-cursor cliui color-convert color-name combined-stream commander concat-map content-disposition
convert-source-map cookie core-util-is cosmiconfig cross-env cross-spawn csstype debug delayed-stream depd
detect-libc diff discord.js doctrine dotenv dunder-proto eastasianwidth electron electron-to-chromium
emoji-regex encodeurl entities es-define-property es-errors es-object-atoms es-set-tostringtag esbuild escalade
escape-string-regexp eslint eslint-scope eslint-visitor-keys espree esprima esquery estraverse estree-walker
esutils eventemitter3 exa-mcp-server execa expo-mcp express fast-deep-equal fast-glob
fast-json-stable-stringify fast-levenshtein fastq fetcher-mcp figma-console-mcp figma-developer-mcp
file-entry-cache fill-range finalhandler find-up firecrawl-mcp flat-cache flatted flightradar-mcp-server
follow-redirects foreground-child form-data fs-extra function-bind gensync get-caller-file get-intrinsic
get-proto get-stream glob glob-parent globals globby gopd graceful-fs has-flag has-symbols has-tostringtag
hasown hono-mcp-server-sse-transport hosted-git-info http-errors http-proxy-agent https-proxy-agent
human-signals iconv-lite ieee754 ignore import-fresh imurmurhash inherits ini ios-simulator-mcp is-arrayish
is-core-module is-docker is-extglob is-fullwidth-code-point is-glob is-number is-plain-obj is-stream is-wsl
isarray isexe jackspeak jest jest-util jest-worker jiti js-tokens js-yaml jsesc json-parse-even-better-errors
json-schema-traverse json5 jsonfile keyv kind-of kubernetes-mcp-server levn lines-and-columns locate-path
lodash lru-cache magic-string make-dir math-intrinsics mcp mcp-client mcp-client-capabilities mcp-deepwiki
mcp-evals mcp-framework mcp-handler mcp-hello-world mcp-http-server mcp-lite mcp-mermaid mcp-proxy mcp-remote
mcp-server-code-runner mcp-server-kubernetes mcp-use merge-stream micromatch middy-mcp mime mime-db mime-types
mimic-fn minimatch minimist minipass mkdirp mocha mongodb mongodb-mcp-server mongoose ms mysql mysql2 n8n-mcp
n8n-nodes-mcp nanoid negotiator next next-devtools-mcp node-fetch node-releases nodemailer normalize-path
notebooklm-mcp npm npm-run-path npx nx-mcp object-assign object-inspect on-finished once onetime open openai
openapi-mcp-generator optionator p-limit p-locate parent-module parse-json parse5 path-exists path-key
path-parse path-scurry path-to-regexp path-type pg picocolors picomatch pify playwright playwright-mcp pnpm
postcss postcss-selector-parser prelude-ls prettier pretty-format punycode puppeteer qs range-parser raw-body
react react-dom react-is readable-stream readdirp reddit-mcp-buddy redis replicate-mcp require-directory
require-from-string resolve resolve-from restore-cursor reusify rimraf rollup rxjs safe-buffer safer-buffer
scheduler schema-utils semver send serve-static setprototypeof shebang-command shebang-regex side-channel
signal-exit slack-mcp-server slash slice-ansi source-map source-map-js source-map-support sprintf-js sqlite3
statuses string-width string_decoder strip-ansi strip-bom strip-final-newline strip-json-comments stripe
supports-color supports-preserve-symlinks-flag tavily-mcp telecom-mas-agent telegraf to-regex-range
tough-cookie tr46 tslib twilio type-check type-fest type-is typescript undici-types universalify
update-browserslist-db uri-js use-mcp util-deprecate uuid vary vite vite-plugin-mcp vue webidl-conversions
webpack whatwg-url which workers-mcp wrap-ansi wrappy write-file-atomic ws y18n yallist yaml yargs yargs-parser
yarn yocto-queue zod
""".split()  # noqa: SIM905
)
