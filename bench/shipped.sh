#!/usr/bin/env bash
# Train the shipped weights from nothing: `bash bench/shipped.sh WORK [abdomen|chest|fundus|oct|volumes]`, hours on two
# cores. The judge is of another architecture, and learns from other phantoms. A run that was stopped goes on where it was.
# Of `weights/store.py`, `share_part` takes the guide out of an editor once the classifier that it is has been shipped, and
# `pack_weights` halves the denoisers.
set -euo pipefail
work=${1:?name a folder for archives and weights}

train() { # recipe, kind/name, archive, settings
  local recipe=$1 name=$2 data=$3; shift 3
  counterscan train "$recipe" --data "$work/$data" --out "$work/$name" --set name="$name" --resume "$@"
}

abdomen() {
  counterscan phantoms abdomen --n 16000 --seed 7 --out "$work/abdomen-7"
  counterscan phantoms abdomen --n 10000 --seed 8 --out "$work/abdomen-8"
  train classifier abdomen/classifier abdomen-7 --set steps=3000 --set rate=0.002 --set seed=1
  train classifier abdomen/judge abdomen-8 --set network=vgg --set steps=2000 --set rate=0.002 --set seed=2
  train inpainting abdomen/inpainting abdomen-7 --classifier "$work/abdomen/classifier" --set steps=7000 --set seed=1
  train progressive abdomen/progressive abdomen-7 --classifier "$work/abdomen/classifier" --set findings=tumour --set seed=1
}

chest() {
  counterscan phantoms chest --n 16000 --seed 7 --out "$work/chest-7"
  counterscan phantoms chest --n 10000 --seed 8 --out "$work/chest-8"
  train classifier chest/classifier chest-7 --set steps=1600 --set rate=0.002 --set seed=1
  train classifier chest/judge chest-8 --set network=vgg --set steps=1200 --set rate=0.002 --set seed=2
  train inpainting chest/inpainting chest-7 --classifier "$work/chest/classifier" --set steps=2600 --set seed=1 --set guided=false
  train diffusion-autoencoder chest/diffusion-autoencoder chest-7 --set steps=9000 --set seed=1
  train growing-gan chest/growing-gan chest-7 --set seed=1
  train autoencoder chest/autoencoder chest-7 --set seed=1
  train text-diffusion chest/text-begun chest-7 --set autoencoder="$work/chest/autoencoder" --set steps=6000 --set seed=1
  train text-diffusion chest/text-diffusion chest-7 --set autoencoder="$work/chest/autoencoder" \
    --set start="$work/chest/text-begun" --set steps=3200 --set rate=0.0008 --set seed=2
}

fundus() {
  counterscan phantoms fundus --n 16000 --seed 7 --out "$work/fundus-7"
  counterscan phantoms fundus --n 10000 --seed 8 --out "$work/fundus-8"
  train classifier fundus/classifier fundus-7 --set steps=1500 --set rate=0.0008 --set seed=1
  train classifier fundus/judge fundus-8 --set network=vgg --set steps=1000 --set rate=0.0008 --set seed=2
  train inpainting fundus/inpainting fundus-7 --classifier "$work/fundus/classifier" --set steps=1800 --set seed=1
  train diffusion fundus/denoiser fundus-7 --set flip=true --set steps=9000 --set seed=1
  train robust-classifier fundus/robust fundus-7 --set radius=2 --set inner=3 --set batch=16 --set steps=1300 \
    --set rate=0.0007 --set start="$work/fundus/classifier" --set beside="$work/fundus/classifier" --set measured=40 \
    --set seed=1
}

oct() {
  counterscan phantoms oct --n 16000 --seed 7 --out "$work/oct-7"
  counterscan phantoms oct --n 10000 --seed 8 --out "$work/oct-8"
  train classifier oct/classifier oct-7 --set steps=480 --set rate=0.002 --set seed=1
  train classifier oct/judge oct-8 --set network=vgg --set steps=480 --set rate=0.002 --set seed=2
  train inpainting oct/inpainting oct-7 --classifier "$work/oct/classifier" --set steps=2000 --set seed=1
  train diffusion oct/denoiser oct-7 --set flip=true --set steps=6000 --set seed=1
  train robust-classifier oct/robust oct-7 --set radius=1.2 --set inner=3 --set batch=16 --set steps=800 \
    --set rate=0.0007 --set start="$work/oct/classifier" --set beside="$work/oct/classifier" --set measured=40 \
    --set seed=1
}

volumes() { # once the weights of abdomen are in the package: how sure a lesion of a volume is, into the shipped card
  python "$(dirname "$0")/lesions.py" --fit 16 --write --kept "$work/lesions.jsonl"
}

for kind in ${2:-abdomen chest fundus oct}; do "$kind"; done
