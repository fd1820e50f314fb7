# The agent of the demo. It has bash and curl, one wish, and nothing else: what to do after a refusal it learns from
# the refusal itself, from the skill the refusal names, and from policy.local. No host, path, port or program below is
# written down in advance: each comes out of an answer it got.
#
# usage: bash -c "$(< agent.sh)" agent URL TEXT
set -u
LC_ALL=C.UTF-8
url=$1 text=$2
newline=$'\n'

say() { printf '%s\n' "$*"; }
give_up() { say "giving up: $*"; exit 3; }

# string KEY JSON: the first string under KEY, still escaped, so that it can be put into JSON again as it is.
string() { [[ $2 =~ \"$1\":[[:space:]]*\"(([^\"\\]|\\.)*)\" ]] && printf '%s' "${BASH_REMATCH[1]}"; }
# value KEY JSON: the first number or word under KEY.
value() { [[ $2 =~ \"$1\":[[:space:]]*([0-9a-z]+) ]] && printf '%s' "${BASH_REMATCH[1]}"; }
# step ACTION KEY JSON: KEY of the next_steps entry with that action.
step() { [[ $3 =~ \{[^{}]*\"action\":[[:space:]]*\"$1\"[^{}]*\} ]] && string "$2" "${BASH_REMATCH[0]}"; }
# unescape STRING: a JSON string as text.
unescape() { local quote='"'; printf '%b' "${1//\\$quote/$quote}"; }

# call METHOD URL [BODY]: sets `status` and `body`.
call() {
  local options=(-sS -X "$1" -w '\n%{http_code}' -H 'Content-Type: application/json') answer
  [[ $2 == https://* && -n ${GITHUB_TOKEN:-} ]] && options+=(-H "Authorization: Bearer $GITHUB_TOKEN")
  [[ $# -ge 3 ]] && options+=(--data-binary "$3")
  answer=$(curl "${options[@]}" "$2" 2>&1)
  status=${answer##*"$newline"} body=${answer%"$newline"*}
}

upload() {
  say "\$ curl -X PUT $url"
  call PUT "$url" "{\"message\": \"notes from the sandbox\", \"content\": \"$text\"}"
}

# The wish.
upload
if [[ $status == 20* ]]; then say "$status, at once"; exit 0; fi
[[ $status == 403 && $(string error "$body") == policy_denied ]] || give_up "unexpected answer $status: $body"
denied=$body
say "403 $(string error "$denied"): $(string detail "$denied")"
say "    layer $(string layer "$denied"), program $(string binary "$denied"), rule $(string policy "$denied")"
guidance=$(string agent_guidance "$denied") || give_up "refused, and proposals are off"
say "    agent_guidance: $(unescape "$guidance")"

# The refusal names the skill, and where to ask.
skill=$(step read_skill path "$denied") || give_up "the refusal names no skill"
manual=$(< "$skill") || give_up "cannot read $skill"
say "\$ read $skill  (${#manual} characters)"
current=$(step inspect_policy url "$denied")
say "\$ curl $current"
call GET "$current"
[[ $status == 200 ]] || give_up "policy.local answered $status: $body"
say "$status: the policy in force, $(( ${#body} )) bytes"
recent=$(step inspect_recent_denials url "$denied")
say "\$ curl $recent"
call GET "$recent"
say "$status: $(unescape "$(string denials "${body/\[/}")")"
submit=$(step submit_proposal url "$denied")

method=$(string method "$denied") path=$(string path "$denied") host=$(string host "$denied")
port=$(value port "$denied") program=$(string binary "$denied")
# First what would be convenient: the whole folder tree. If a person finds that too much: exactly what was refused.
for scope in "${path%/*}/**" "$path"; do
  proposal="{\"intent_summary\": \"Save my notes: $method $scope on $host\", \"operations\": [{\"addRule\": {
    \"ruleName\": \"save_notes\", \"rule\": {
      \"endpoints\": [{\"host\": \"$host\", \"port\": $port, \"protocol\": \"rest\", \"enforcement\": \"enforce\",
        \"rules\": [{\"allow\": {\"method\": \"$method\", \"path\": \"$scope\"}}]}],
      \"binaries\": [{\"path\": \"$program\"}]}}}]}"
  say "\$ curl -X POST $submit   allow $method $scope"
  call POST "$submit" "$proposal"
  [[ $status == 202 && $body =~ \"accepted_chunk_ids\":[[:space:]]*\[\"([^\"]+)\" ]] || give_up "$status $body"
  chunk=${BASH_REMATCH[1]}
  say "202 submitted, chunk ${chunk:0:8}; waiting for a decision"
  while :; do
    call GET "$submit/$chunk/wait?timeout=300"
    [[ $status == 200 ]] || give_up "$status $body"
    decision=$(string status "$body")
    [[ $decision == pending ]] || break
  done
  if [[ $decision == approved ]]; then
    [[ $(value policy_reloaded "$body") == true ]] || give_up "approved, but not loaded: $body"
    say "approved, policy_reloaded: true; trying again, once"
    upload
    [[ $status == 20* ]] || give_up "still refused: $status $body"
    say "$status, sha $(string sha "$body")"
    exit 0
  fi
  say "rejected; the reviewer says: $(unescape "$(string rejection_reason "$body")")"
done
give_up "both proposals were rejected"
