// testguest is PID 1 of the sandboxes that the host tests make: it does what a test asks for over HTTP.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "euid" {
		fmt.Print(os.Geteuid())
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "stay" {
		time.Sleep(time.Hour)
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "multiply" {
		fmt.Println(multiply(nil))
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "adder" {
		adder()
		return
	}
	answer("/", func(*http.Request) (string, error) { return os.Hostname() })
	answer("/spin", spin)
	answer("/dial", dial)
	answer("/hold", hold)
	answer("/use", use)
	answer("/say", say)
	answer("/fill", fill)
	answer("/read", func(r *http.Request) (string, error) {
		text, err := os.ReadFile(r.FormValue("path"))
		return string(text), err
	})
	answer("/list", list)
	answer("/write", func(r *http.Request) (string, error) {
		return "", writeSynced(r.FormValue("path"), []byte(r.FormValue("text")))
	})
	answer("/rename", func(r *http.Request) (string, error) { return "", os.Rename(r.FormValue("from"), r.FormValue("to")) })
	answer("/dig", dig)
	answer("/bind", func(r *http.Request) (string, error) {
		if err := os.MkdirAll(r.FormValue("to"), 0o755); err != nil {
			return "", err
		}
		return "", syscall.Mount(r.FormValue("from"), r.FormValue("to"), "", syscall.MS_BIND, "")
	})
	answer("/unbind", func(r *http.Request) (string, error) { return "", syscall.Unmount(r.FormValue("at"), 0) })
	answer("/eat", eat)
	answer("/fetch", fetch)
	answer("/multiply", multiply)
	answer("/multiply-as-user", func(*http.Request) (string, error) { return asUser("multiply") })
	answer("/crowd", crowd)
	answer("/exit", func(r *http.Request) (string, error) {
		code, err := strconv.Atoi(r.FormValue("code"))
		if err == nil {
			os.Exit(code)
		}
		return "", err
	})
	answer("/elevated", elevated)
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":8080", nil))
	os.Exit(1)
}

// answer makes errors part of the body, so that a test reads them.
func answer(path string, act func(*http.Request) (string, error)) {
	http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		text, err := act(r)
		if err != nil {
			w.WriteHeader(http.StatusTeapot)
			text = err.Error()
		}
		io.WriteString(w, text)
	})
}

func spin(*http.Request) (string, error) {
	go func() {
		for {
		}
	}()
	go func() {
		for range time.Tick(time.Millisecond) {
		}
	}()
	return "", nil
}

func dial(r *http.Request) (string, error) {
	connection, err := net.DialTimeout("tcp", r.FormValue("to"), time.Second)
	if err != nil {
		return "", err
	}
	return "open", connection.Close()
}

var held []net.Conn

// hold opens connections and keeps them; it tells how many it got.
func hold(r *http.Request) (string, error) {
	count, err := strconv.Atoi(r.FormValue("count"))
	if err != nil {
		return "", err
	}
	for range count {
		connection, err := net.DialTimeout("tcp", r.FormValue("to"), 300*time.Millisecond)
		if err != nil {
			break
		}
		held = append(held, connection)
	}
	return strconv.Itoa(len(held)), nil
}

// use asks something over the first connection that is held.
func use(*http.Request) (string, error) {
	if len(held) == 0 {
		return "", errors.New("no connection is held")
	}
	held[0].SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(held[0], "HEAD / HTTP/1.1\r\nHost: held\r\n\r\n"); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(held[0]), &http.Request{Method: http.MethodHead})
	if err != nil {
		return "", err
	}
	return response.Status, nil
}

// say sends a datagram and gives the reply.
func say(r *http.Request) (string, error) {
	connection, err := net.Dial("udp", r.FormValue("to"))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(time.Second))
	if _, err := connection.Write([]byte("hello")); err != nil {
		return "", err
	}
	buffer := make([]byte, 512)
	n, err := connection.Read(buffer)
	return string(buffer[:n]), err
}

// fill writes a file until the disk refuses, and tells how many MiB were kept and why it ended.
func fill(r *http.Request) (string, error) {
	file, err := os.Create(r.FormValue("path"))
	if err != nil {
		return "", err
	}
	defer file.Close()
	block := make([]byte, 1<<20)
	for at := range block {
		block[at] = byte(at * 7)
	}
	written := 0
	for {
		if _, err = file.Write(block); err == nil && written%16 == 0 {
			err = file.Sync()
		}
		if err != nil {
			break
		}
		written++
	}
	if syncErr := file.Sync(); syncErr != nil {
		return fmt.Sprintf("%d %v then %v", written, err, syncErr), nil
	}
	return fmt.Sprintf("%d %v", written, err), nil
}

func writeSynced(path string, text []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(text); err != nil {
		return err
	}
	return file.Sync()
}

// dig makes directories within each other until no path is long enough for the lowest, and moves something there.
func dig(r *http.Request) (string, error) {
	at, err := syscall.Open(r.FormValue("top"), syscall.O_DIRECTORY, 0)
	if err != nil {
		return "", err
	}
	level := strings.Repeat("x", 200)
	for range 40 { // 8 kB; a path has at most 4.
		if err := syscall.Mkdirat(at, level, 0o755); err != nil {
			return "", err
		}
		below, err := syscall.Openat(at, level, syscall.O_DIRECTORY, 0)
		syscall.Close(at)
		if err != nil {
			return "", err
		}
		at = below
	}
	defer syscall.Close(at)
	return "", syscall.Renameat(at, r.FormValue("move"), at, "moved")
}

func list(r *http.Request) (string, error) {
	entries, err := os.ReadDir(r.FormValue("path"))
	if err != nil {
		return "", err
	}
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	return strings.Join(found, " "), nil
}

var eaten [][]byte

// eat takes memory and keeps it.
func eat(r *http.Request) (string, error) {
	mib, err := strconv.Atoi(r.FormValue("mib"))
	if err != nil {
		return "", err
	}
	for range mib {
		piece := make([]byte, 1<<20)
		for at := 0; at < len(piece); at += 4096 {
			piece[at] = 1
		}
		eaten = append(eaten, piece)
	}
	return "", nil
}

// elevated runs a set-user-id program as somebody else and gives the user that it finds itself to be.
func elevated(*http.Request) (string, error) {
	command := exec.Command("/suid", "euid")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out, err := command.CombinedOutput()
	return string(out), err
}

// asUser runs this program without PID 1's capabilities. What it starts lives on.
func asUser(argument string) (string, error) {
	command := exec.Command("/proc/self/exe", argument)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out, err := command.Output()
	return string(out), err
}

// multiply starts processes that stay, until it cannot.
func multiply(r *http.Request) (string, error) {
	for count := 0; ; count++ {
		if err := exec.Command("/proc/self/exe", "stay").Start(); err != nil {
			return strconv.Itoa(count), err
		}
	}
}

// crowd has many threads of the kernel at work at once: each write that waits for the disk takes one.
func crowd(*http.Request) (string, error) {
	for writer := range 200 {
		go func() {
			for {
				writeSynced(fmt.Sprintf("/crowd%d", writer), make([]byte, 1<<16))
			}
		}()
	}
	return "", nil
}

func fetch(r *http.Request) (string, error) {
	begin := time.Now()
	response, err := http.Get(r.FormValue("url"))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	return fmt.Sprintf("%d %d", n, time.Since(begin).Milliseconds()), err
}
