package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// What a process has that an image must keep: memory, a file that is open in the middle, a child that it talks to.

func init() {
	answer("/random", random)
	answer("/hash", hash)
	answer("/open", open)
	answer("/next", next)
	answer("/map", mapFile)
	answer("/scribble", scribble)
	answer("/child", child)
	answer("/add", add)
}

var kept [][]byte

// random takes memory that cannot be compressed and keeps it.
func random(r *http.Request) (string, error) {
	mib, err := strconv.Atoi(r.FormValue("mib"))
	if err != nil {
		return "", err
	}
	for range mib {
		piece := make([]byte, 1<<20)
		rand.Read(piece)
		kept = append(kept, piece)
	}
	return hash(r)
}

func hash(*http.Request) (string, error) {
	sum := sha256.New()
	for _, piece := range kept {
		sum.Write(piece)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

var reading *os.File

// open opens a file and reads its first bytes.
func open(r *http.Request) (text string, err error) {
	if reading, err = os.Open(r.FormValue("path")); err != nil {
		return "", err
	}
	return next(r)
}

// next reads on where the last read ended.
func next(r *http.Request) (string, error) {
	count, err := strconv.Atoi(r.FormValue("bytes"))
	if err != nil {
		return "", err
	}
	buffer := make([]byte, count)
	n, err := io.ReadFull(reading, buffer)
	return string(buffer[:n]), err
}

var mapped []byte

// mapFile maps a file into memory, shared.
func mapFile(r *http.Request) (string, error) {
	file, err := os.OpenFile(r.FormValue("path"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if err := file.Truncate(4096); err != nil {
		return "", err
	}
	mapped, err = syscall.Mmap(int(file.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	return "", err
}

// scribble writes to the mapped file by way of memory alone.
func scribble(r *http.Request) (string, error) {
	copy(mapped, r.FormValue("text"))
	return "", nil
}

var (
	asking    io.Writer
	answering *bufio.Reader
)

// child starts one that adds up numbers.
func child(*http.Request) (string, error) {
	command := exec.Command("/init", "adder")
	in, err := command.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return "", err
	}
	asking, answering = in, bufio.NewReader(out)
	return "", command.Start()
}

// add gives the child a number and tells the sum so far.
func add(r *http.Request) (string, error) {
	if _, err := fmt.Fprintln(asking, r.FormValue("number")); err != nil {
		return "", err
	}
	line, err := answering.ReadString('\n')
	return line, err
}

// adder is the child.
func adder() {
	sum := 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		number, _ := strconv.Atoi(lines.Text())
		sum += number
		fmt.Println(sum)
	}
}
