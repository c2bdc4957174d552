# shellcheck shell=bash
# What .ci/run and .ci/soak share: stages with their times, a scratch directory that is removed at the end,
# fresh copies of the checkout, fresh environments. Sourced with the script's own arguments, never run.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/regsim-ci.XXXXXX")
only=("$@") # the functions named on the command line, or all
stage_name=""
stage_start=0
stage_log=()
pytest_log=()

# Wheels are downloaded once and shared; everything else that a program caches starts from nothing.
export PIP_CACHE_DIR=${PIP_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/pip}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_RETRIES=8
export XDG_CACHE_HOME=$scratch/cache
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME

finish() { # on exit, however it comes: say how it went, leave nothing behind
  local status=$? line
  rm -rf "$scratch"
  if [ -n "$stage_name" ]; then
    stage_log+=("FAILED $((SECONDS - stage_start)) s  $stage_name")
  fi
  printf '\n==> %s: stages and their times\n' "$(basename "$0")"
  for line in "${stage_log[@]}"; do printf '    %s\n' "$line"; done
  printf '    total  %d s, exit %d\n' "$SECONDS" "$status"
  # pytest's own closing lines again, so that the last lines tell what ran.
  for line in "${pytest_log[@]}"; do printf '%s\n' "$line"; done
  exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

stage() { # NAME FUNCTION [ARGUMENT...]: run one stage; the first that fails ends the script
  if [ ${#only[@]} -gt 0 ] && [ "$2" != prepare_tools ] && [[ " ${only[*]} " != *" $2 "* ]]; then
    return
  fi
  stage_name=$1
  stage_start=$SECONDS
  printf '\n==> %s\n' "$stage_name"
  shift
  "$@" </dev/null
  stage_log+=("passed $((SECONDS - stage_start)) s  $stage_name")
  stage_name=""
}

twice() { # COMMAND...: for downloads alone: try again once
  "$@" || {
    printf 'again, after a failure: %s\n' "$*" >&2
    "$@"
  }
}

fresh_copy() { # DIRECTORY: what a commit of this checkout would hold, and nothing else
  local file
  mkdir -p "$1"
  git -c safe.directory="$top" -C "$top" ls-files -z --cached --others --exclude-standard --deduplicate |
    while IFS= read -r -d '' file; do
      if [ -e "$top/$file" ] || [ -L "$top/$file" ]; then printf '%s\0' "$file"; fi
    done |
    tar -C "$top" --null --files-from=- --create --file=- |
    tar -C "$1" --extract --no-same-owner --file=-
}

fresh_venv() { # DIRECTORY
  python3 -m venv --clear "$1"
}

prepare_tools() { # [REQUIREMENT...]: a fresh copy of the checkout, and one environment with every tool for it
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_debian python3-venv
  python3 -c 'import sys; print("Python", sys.version); sys.exit(sys.version_info < (3, 11))'
  fresh_copy "$scratch/checkout"
  fresh_venv "$scratch/tools"
  twice "$scratch/tools/bin/pip" install --quiet --editable "$scratch/checkout[test,lint]" "$@"
  "$scratch/tools/bin/pip" check
}

tell_pytest() { # LABEL COMMAND...: run something that ends in pytest, and keep pytest's closing line
  local label=$1 output=$scratch/pytest.out status
  shift
  set +e
  (
    set -e
    "$@"
  ) 2>&1 | tee "$output"
  status=${PIPESTATUS[0]}
  set -e
  pytest_log+=("$label: $(grep -E ' in [0-9.]+s( \(.*\))?( =+)?$' "$output" | tail -n 1)")
  return "$status"
}

install_debian() { # PACKAGE...: install what is missing, without starting a service
  local missing=() package policy=/usr/sbin/policy-rc.d
  for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
      missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then
    printf 'already installed: %s\n' "$*"
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then
    printf 'missing Debian packages, and only root can install them: %s\n' "${missing[*]}" >&2
    return 1
  fi
  local ours=
  if [ ! -e "$policy" ]; then
    ours=$policy
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  export DEBIAN_FRONTEND=noninteractive
  local status=0
  { twice apt-get update --quiet=2 &&
    twice apt-get install --quiet=2 --yes --no-install-recommends "${missing[@]}"; } || status=$?
  [ -z "$ours" ] || rm -f "$ours"
  return "$status"
}
