package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// provisionerName is what a StorageClass names to get its volumes from this program.
const provisionerName = "cluster.anneal.dev/folder"

// folderProvisioner makes each volume a folder below root, on the node that the scheduler chose.
//
// The volumes are of the type `local`, not `hostPath`, so that the kubelet applies a pod's fsGroup to them.
type folderProvisioner struct {
	root string
}

// newVolumeProvisionerCommand serves dynamic volumes from the host, where the folders are, and so needs no helper pods.
func newVolumeProvisionerCommand() *cobra.Command {
	var kubeconfig, root string
	command := &cobra.Command{
		Use:   "volume-provisioner",
		Short: "Provision a folder for each PersistentVolumeClaim of the StorageClass",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return serveVolumes(genericapiserver.SetupSignalContext(), kubeconfig, root)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "file with the access to the API server")
	command.Flags().StringVar(&root, "root", "", "folder that holds the volumes")
	return command
}

func serveVolumes(ctx context.Context, kubeconfig, root string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 200, 400
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	provisioner := &folderProvisioner{root: root}
	controller.NewProvisionController(
		ctx, client, provisionerName, provisioner, controller.LeaderElection(false),
	).Run(ctx)
	return nil
}

// Provision makes the folder, writable by every uid since pods of any user may claim it, and describes it as a volume.
func (p *folderProvisioner) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC
	if options.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf(
			"StorageClass %s must have volumeBindingMode WaitForFirstConsumer: a folder belongs to a node", options.StorageClass.Name)
	}
	path := filepath.Join(p.root, fmt.Sprintf("%s_%s_%s", options.PVName, claim.Namespace, claim.Name))
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	if err := os.Chmod(path, 0o777); err != nil { // MkdirAll is subject to the umask
		return nil, controller.ProvisioningFinished, err
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    claim.Spec.VolumeMode,
			Capacity: corev1.ResourceList{
				corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage],
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity:           onlyOn(options.SelectedNodeName),
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the volume's folder, and refuses a path outside its own root.
func (p *folderProvisioner) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	if volume.Spec.Local == nil || filepath.Dir(volume.Spec.Local.Path) != p.root {
		return fmt.Errorf("volume %s is not a folder directly below %s", volume.Name, p.root)
	}
	return os.RemoveAll(volume.Spec.Local.Path)
}

func onlyOn(node string) *corev1.VolumeNodeAffinity {
	return &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
		MatchExpressions: []corev1.NodeSelectorRequirement{{
			Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node},
		}},
	}}}}
}
