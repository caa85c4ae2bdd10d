#!/usr/bin/env bash
# Train and measure on real images, from the root of the checkout: `COUNTERSCAN_REAL_DATA=... bash bench/real.sh WORK`.
# Nothing from WORK may be shared.
# Folds 2 to 4 train, fold 1 selects and chooses mask rules, fold 0 is measured on. The 31 images of cxr_masks train
# nothing; folds 1 and 2 choose rules, the others are measured on. A run that was stopped goes on where it was.
set -euo pipefail
work=${1:?name a folder for the data, the weights and the explanations}
here=$(dirname "$0")
[ -f "$work/ct/labels.csv" ] || python "$here/real_sets.py" "$work"

train() { # name, steps of the editor, settings of the data set
  local name=$1 steps=$2; shift 2
  counterscan train classifier --data "$work/$name" --out "$work/$name-classifier" --set steps=500 "$@" --resume
  counterscan train classifier --data "$work/$name" --out "$work/$name-judge" --set network=vgg --set seed=1 \
    --set steps=500 "$@" --resume
  counterscan train inpainting --data "$work/$name" --classifier "$work/$name-classifier" --out "$work/$name-inpainting" \
    --set steps="$steps" --set augmented=true "$@" --resume
}

models() { # name: the words that name its models
  echo --classifier "$work/$1-classifier" --judge "$work/$1-judge" --prior "$work/$1-inpainting"
}

ct() {
  train ct 2000 --set flip=true
  python "$here/comparison.py" folds "$work/ct" --name ct_sarcoma $(models ct) --target tumour=0 \
    --work "$work/measured/ct" --masks 300
}

cxr() {
  train cxr 1400
  counterscan explain "$work/cxr" --fold 0 $(models cxr) --target normal --with inpainting --out "$work/measured/cxr"
  counterscan score "$work/measured/cxr" --judge "$work/cxr-judge" --json results/cxr_pneumonia-inpainting.json
  python "$here/comparison.py" folds "$work/cxr_masks" --name cxr_lesion_masks $(models cxr) --target normal \
    --work "$work/measured/cxr_masks" --masks 300 --validation-folds 1 2 --test-folds 0 3 4
}

for one in ${2:-ct cxr}; do "$one"; done
