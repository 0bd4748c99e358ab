package process

import (
	"strings"
	"testing"
)

func TestOnlyCertainLinesAvoidAFreshShell(t *testing.T) {
	known := func(name string) bool { return name == "HOME" }
	for text, want := range map[string]string{
		"node -v":                         "plain: node|-v",
		"  ls -la /tmp  \n":               "plain: ls|-la|/tmp",
		"python3 -c 'print(1); x=\"$a\"'": `plain: python3|-c|print(1); x="$a"`,
		`node -e "console.log(1)"`:        "plain: node|-e|console.log(1)",
		"/bin/echo hi":                    "plain: /bin/echo|hi",
		"git commit -m 'a'\"b\"c":         "plain: git|commit|-m|abc",
		"cp a=b c":                        "plain: cp|a=b|c",
		`echo "benchmark"`:                "builtin",
		"echo $HOME ${HOME} \"$HOME\"":    "builtin",
		"true && echo a; false || pwd":    "builtin",
		"exit 3":                          "builtin",
		"echo a\necho b":                  "builtin",
		"echo $RANDOM":                    "shell",
		"echo $$":                         "shell",
		"echo ${#HOME}":                   "shell",
		"echo ${HOME":                     "shell",
		"ls $HOME":                        "shell",
		"echo a > f":                      "shell",
		"echo a | cat":                    "shell",
		"echo `id`":                       "shell",
		"echo $(id)":                      "shell",
		"echo *":                          "shell",
		"echo ~":                          "shell",
		"echo a &":                        "shell",
		"echo {a,b}":                      "shell",
		"echo \\a":                        "shell",
		"echo 'open":                      "shell",
		"echo \"open":                     "shell",
		"echo a # b":                      "shell",
		"A=1 node":                        "shell",
		"A=1":                             "shell",
		"cd /tmp":                         "shell",
		"kill 1":                          "shell",
		"time ls":                         "shell",
		"ls; ls":                          "shell",
		"echo a; ls":                      "shell",
		"; echo":                          "shell",
		"echo a;; echo b":                 "shell",
		"''":                              "shell",
		"'' a":                            "shell",
		"$HOME":                           "shell",
		"${HOME}echo a":                   "shell",
		"echo $HOME; ${HOME}echo a":       "shell",
		"":                                "shell",
		"  \n":                            "shell",
		"! true":                          "shell",
		"écho":                            "shell",
		"echo 'é☃'":                       "builtin",
		"if":                              "shell",
		"[ -f a ]":                        "shell",
		"test -f a":                       "shell",
	} {
		got := "shell"
		switch read := readLine(text, known); {
		case read.plain != nil:
			got = "plain: " + strings.Join(read.plain, "|")
		case read.builtin:
			got = "builtin"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
