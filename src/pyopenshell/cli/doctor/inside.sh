# The attacker where the host has no Python: what a shell can try. Same lines as inside.py.
# bash -c "$(cat inside.sh)" attacker GATEWAY_PORT DECOY_PORT
say() { # KEY STATUS SAW: held when STATUS is not 0
  if [ "$2" -ne 0 ]; then held=true; else held=false; fi
  printf '{"key": "%s", "held": %s, "saw": "%s"}\n' "$1" "$held" "$3"
}
try() { # KEY WORDS COMMAND...: held when the command fails
  key=$1 words=$2
  shift 2
  "$@" >/dev/null 2>&1
  say "$key" $? "$words"
}
ask() { # status line the proxy answers to one request
  exec 3<>/dev/tcp/10.200.0.1/3128
  printf '%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$1" "$2" >&3
  read -r -t 10 _ status _ <&3
  exec 3>&-
  [ "$status" != 403 ]
}
reach() { bash -c "exec 3<>/dev/tcp/127.0.0.1/$2" || ask "CONNECT $1:$2" "$1"; }
try host_loopback "direct, and asked of the proxy" reach localhost "$2"
try gateway "direct, and asked of the proxy" reach 127.0.0.1 "$1"
try metadata "asked of the proxy" ask "GET http://169.254.169.254/latest/meta-data/" 169.254.169.254
try self_approval "asked of policy.local" bash -c "exec 3<>/dev/tcp/10.200.0.1/3128; printf 'POST http://policy.local/v1/proposals/1/approve HTTP/1.1\r\nHost: policy.local\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' >&3; read -r -t 10 _ status _ <&3; [ \$status -lt 400 ]"
try read_only_paths "writes to /usr, /etc and /var/log tried" bash -c ': >/usr/x || : >/etc/x || : >/var/log/x'
try secrets "/etc/shadow, /root and /home tried" bash -c 'read -r _ </etc/shadow || [ -e /root ] || [ -e /home ]'
kill -9 1 2>/dev/null
try guard "SIGKILL to PID 1, and reading its memory" bash -c '[ ! -e /proc/1/stat ] || read -r _ </proc/1/environ'
