package process

import (
	"os"
	"sort"
	"strings"

	"torpor/guest/internal/account"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// OwnEnvironment is PID 1's environment as the template gave it, without what is meant for PID 1 only.
func OwnEnvironment(hidden ...string) map[string]string {
	env := map[string]string{}
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if name != "" && !isHidden(name, hidden) {
			env[name] = value
		}
	}
	return env
}

func isHidden(name string, hidden []string) bool {
	for _, item := range hidden {
		if item == name {
			return true
		}
	}
	switch name {
	case "GODEBUG", "GOMAXPROCS", "GOTRACEBACK": // ours
		return true
	case "PWD", "OLDPWD", "SHLVL", "_": // of whatever shell started us
		return true
	}
	return false
}

// accountVariables describe the user; those of another user are never inherited.
var accountVariables = []string{"HOME", "USER", "LOGNAME", "SHELL"}

// environment layers, later ones winning: defaults, the template's, the account's, the identity's, the request's.
func environment(who account.Account, sameAsInstance bool, template, identity, request map[string]string) map[string]string {
	env := map[string]string{"PATH": defaultPath, "LANG": "C.UTF-8", "TERM": "xterm-256color"}
	merge(env, template)
	env["HOME"], env["SHELL"] = who.Home, who.Shell
	env["USER"], env["LOGNAME"] = who.Name, who.Name
	if who.Name == "" {
		delete(env, "USER")
		delete(env, "LOGNAME")
	}
	for name, value := range identity {
		if sameAsInstance || !isAccountVariable(name) {
			env[name] = value
		}
	}
	merge(env, request)
	return env
}

func pairsOf(env map[string]string) []string {
	pairs := make([]string, 0, len(env))
	for name, value := range env {
		pairs = append(pairs, name+"="+value)
	}
	sort.Strings(pairs)
	return pairs
}

func merge(into, from map[string]string) {
	for name, value := range from {
		into[name] = value
	}
}

func isAccountVariable(name string) bool {
	for _, item := range accountVariables {
		if item == name {
			return true
		}
	}
	return false
}
