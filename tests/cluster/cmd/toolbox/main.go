// Command toolbox is all that the pods of the cluster's own tests need, in one static file, and the pause container too.
//
// An image of it is made without any builder, so that the cluster can be tested before there is an image of anything.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

type tool struct {
	usage string
	run   func(arguments []string) error
}

var tools = map[string]tool{
	"pause": {"pause", pause},
	"serve": {"serve ADDRESS TEXT", serve},
	"get":   {"get URL SECONDS", get},
	"write": {"write FILE TEXT", write},
	"print": {"print FILE...", printFiles},
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("name a tool"))
	}
	chosen, known := tools[os.Args[1]]
	arguments := os.Args[min(2, len(os.Args)):]
	if !known || len(arguments) < len(strings.Fields(chosen.usage))-1 {
		fail(fmt.Errorf("unknown tool or too few arguments: %q", os.Args[1:]))
	}
	if err := chosen.run(arguments); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "toolbox:", err)
	for _, each := range tools {
		fmt.Fprintln(os.Stderr, "  toolbox", each.usage)
	}
	os.Exit(1)
}

// pause holds a pod's namespaces open and, as its first process, collects the orphans of the others.
func pause([]string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	for {
		select {
		case <-stop:
			return nil
		case <-ended:
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
					break
				}
			}
		}
	}
}

// serve answers every request with a text and ends on SIGTERM.
func serve(arguments []string) error {
	listener, err := net.Listen("tcp", arguments[0])
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		os.Exit(0)
	}()
	return http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(answer, arguments[1])
	}))
}

// get prints what a URL answers; it tries again until it gets 200 or the time is over.
func get(arguments []string) error {
	patience, err := time.ParseDuration(arguments[1] + "s")
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 2 * time.Second}
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		body, err := fetch(client, arguments[0])
		if err == nil {
			fmt.Print(body)
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

func fetch(client http.Client, url string) (string, error) {
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %s", url, answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	return string(body), err
}

// write creates a file and says who owns it now.
func write(arguments []string) error {
	if err := os.WriteFile(arguments[0], []byte(arguments[1]), 0o640); err != nil {
		return err
	}
	about, err := os.Stat(arguments[0])
	if err != nil {
		return err
	}
	owner := about.Sys().(*syscall.Stat_t)
	fmt.Printf("%s uid=%d gid=%d\n", arguments[0], owner.Uid, owner.Gid)
	return nil
}

func printFiles(names []string) error {
	for _, name := range names {
		contents, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		os.Stdout.Write(contents)
	}
	return nil
}
