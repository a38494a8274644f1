#!/usr/bin/env bash
# Installs kubeadm, kubelet and kubectl @VERSION@ on this server.
set -euo pipefail

swapoff -a
sed -i '/\sswap\s/s/^/#/' /etc/fstab
printf 'overlay\nbr_netfilter\n' > /etc/modules-load.d/kubernetes.conf
modprobe -a overlay br_netfilter
printf 'net.ipv4.ip_forward=1\nnet.bridge.bridge-nf-call-iptables=1\n' > /etc/sysctl.d/90-kubernetes.conf
sysctl --system > /dev/null

apt-get update
apt-get install --yes "kubelet=@VERSION@-*" "kubeadm=@VERSION@-*" "kubectl=@VERSION@-*"
apt-mark hold kubelet kubeadm kubectl
systemctl enable --now kubelet
