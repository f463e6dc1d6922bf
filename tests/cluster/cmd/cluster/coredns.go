package main

import (
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	"github.com/spf13/cobra"
)

// newCoreDNSCommand runs CoreDNS without its own main, which owns the process-wide flag set that other parts share.
func newCoreDNSCommand() *cobra.Command {
	var corefile string
	command := &cobra.Command{
		Use:   "coredns",
		Short: "Answer the DNS names of Services and Pods",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return serveDNS(corefile)
		},
	}
	command.Flags().StringVar(&corefile, "conf", "Corefile", "the Corefile to serve")
	return command
}

func serveDNS(corefile string) error {
	dnsserver.Port = dnsserver.DefaultPort
	caddy.AppName = "CoreDNS"
	caddy.TrapSignals()
	contents, err := os.ReadFile(corefile)
	if err != nil {
		return err
	}
	instance, err := caddy.Start(caddy.CaddyfileInput{Contents: contents, Filepath: corefile, ServerTypeName: "dns"})
	if err != nil {
		return err
	}
	instance.Wait()
	return nil
}
