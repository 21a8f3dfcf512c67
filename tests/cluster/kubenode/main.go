// Command kubenode is every program of Kubernetes that a node needs, in one binary, so that one
// build makes a cluster. The name it is called by, or its first argument, says which one it is.
package main

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func() *cobra.Command{
	"etcd":                    etcd,
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

// etcd serves one member whose data nobody needs after a crash, so it never waits for the disk.
func etcd() *cobra.Command {
	var dir, listen string
	command := &cobra.Command{Use: "etcd", RunE: func(*cobra.Command, []string) error {
		address, err := url.Parse(listen)
		if err != nil {
			return err
		}
		config := embed.NewConfig()
		config.Dir = dir
		config.ListenClientUrls = []url.URL{*address}
		config.AdvertiseClientUrls = config.ListenClientUrls
		config.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
		config.UnsafeNoFsync = true
		config.LogLevel = "warn"
		server, err := embed.StartEtcd(config)
		if err != nil {
			return err
		}
		return <-server.Err()
	}}
	command.Flags().StringVar(&dir, "data-dir", "etcd", "where the data goes")
	command.Flags().StringVar(&listen, "listen", "http://127.0.0.1:2379", "the clients' address")
	return command
}

func main() {
	name := filepath.Base(os.Args[0])
	if programs[name] == nil && len(os.Args) > 1 {
		os.Args = os.Args[1:]
		name = os.Args[0]
	}
	program := programs[name]
	if program == nil {
		fmt.Fprintln(os.Stderr, "kubenode is none of", name, "but", slices.Sorted(maps.Keys(programs)))
		os.Exit(2)
	}
	os.Exit(cli.Run(program()))
}
