#!/usr/bin/env bash
# Train the shipped weights from nothing: `bash bench/shipped.sh WORK [abdomen|chest|fundus|oct]`, hours on two cores. The judge
# is of another architecture, and learns from other phantoms. A run that was stopped goes on where it was.
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
}

chest() {
  counterscan phantoms chest --n 16000 --seed 7 --out "$work/chest-7"
  counterscan phantoms chest --n 10000 --seed 8 --out "$work/chest-8"
  train classifier chest/classifier chest-7 --set steps=1600 --set rate=0.002 --set seed=1
  train classifier chest/judge chest-8 --set network=vgg --set steps=1200 --set rate=0.002 --set seed=2
  train inpainting chest/inpainting chest-7 --classifier "$work/chest/classifier" --set steps=2600 --set seed=1 --set guided=false
}

for kind in ${2:-abdomen chest}; do "$kind"; done
