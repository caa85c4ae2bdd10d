#!/usr/bin/env bash
# Train and measure on real images, from the root of the checkout: `COUNTERSCAN_REAL_DATA=... bash bench/real.sh WORK`.
# Nothing from WORK may be shared.
# ct: every fold is measured on once, the next one selects and chooses mask rules, the others train. cxr: fold 0 is
# measured on. The 31 images of cxr_masks and the 64 of kits train nothing. fundus and oct: fold 0 is measured on, and all
# go on from the weights for phantoms. A run that was stopped goes on where it was.
set -euo pipefail
work=${1:?name a folder for the data, the weights and the explanations}
here=$(dirname "$0")

sets() { # names of sets: writes those that are not there
  local name
  for name; do [ -f "$work/$name/labels.csv" ] || python "$here/real_sets.py" "$work" "$name"; done
}

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

ct() { # five folds: each is measured with models that saw the others; few patients, so the editors go on from phantoms
  local data=$work/ct fold to
  sets ct
  for fold in 0 1 2 3 4; do
    to=$work/folds/$fold
    set -- --data "$data" --set fold=$fold --resume
    counterscan train classifier "$@" --out "$to/classifier" --set steps=400 --set flip=true
    counterscan train classifier "$@" --out "$to/judge" --set steps=300 --set flip=true --set network=vgg --set seed=1
    counterscan train inpainting "$@" --out "$to/inpainting" --classifier "$to/classifier" --set steps=400 \
      --set start=abdomen/inpainting --set augmented=true --set flip=true
    counterscan train progressive "$@" --out "$to/progressive" --classifier "$to/classifier" --set steps=400 \
      --set findings=tumour --set augmented=true --set flip=true
    counterscan segment "$data" --classifier "$to/classifier" --target tumour=0 --with inpainting \
      --prior "$to/inpainting" --out "$to/masks"
    counterscan train student "$@" --out "$to/student" --set masks="$to/masks" --set findings=tumour --set steps=400
    counterscan train student "$@" --out "$to/supervised" --set findings=tumour --set steps=400
  done
  counterscan bench segmentation "$data" --models "$work/folds/{fold}" --target tumour=0 --masks 300 \
    --out "$work/measured/ct-folds" --json results/segmentation-ct_sarcoma.json
}

kits() { # what learned from phantoms, on real kidneys: nothing is trained
  sets kits
  counterscan bench segmentation "$work/kits" --models abdomen --target tumour=0 --masks 300 \
    --out "$work/measured/kits" --json results/segmentation-ct_kidney_kits19.json
}

cxr() {
  sets cxr cxr_masks
  train cxr 1400
  counterscan explain "$work/cxr" --fold 0 $(models cxr) --target normal --with inpainting --out "$work/measured/cxr"
  counterscan score "$work/measured/cxr" --judge "$work/cxr-judge" --json results/cxr_pneumonia-inpainting.json
  python "$here/comparison.py" folds "$work/cxr_masks" --name cxr_lesion_masks $(models cxr) --target normal \
    --work "$work/measured/cxr_masks" --masks 300 --validation-folds 1 2 --test-folds 0 3 4
}

text() { # class-level prompts; after cxr, whose classifier and judge are asked, and on the folds that it measures on
  sets cxr cxr_masks
  counterscan train autoencoder --data "$work/cxr" --out "$work/cxr-autoencoder" --set start=chest/autoencoder \
    --set steps=500 --set rate=0.0005 --resume
  counterscan train text-diffusion --data "$work/cxr" --out "$work/cxr-text" \
    --set autoencoder="$work/cxr-autoencoder" --set steps=2000 --resume
  counterscan explain "$work/cxr_masks" --fold 0 --fold 3 --fold 4 --classifier "$work/cxr-classifier" \
    --judge "$work/cxr-judge" --prior "$work/cxr-text" --target normal --with latent-text --out "$work/measured/cxr-text"
  counterscan score "$work/measured/cxr-text" --json results/cxr_lesion_masks-latent-text.json
}

asked() { # set, its black box, a judge, the target: nothing is known of the box but what it answers
  local name=$1 box=$2 judge=$3 target=$4 server
  counterscan train diffusion-autoencoder --data "$work/$name" --out "$work/agents/$name/codec" --set steps=400 \
    --set start=chest/diffusion-autoencoder --set rate=0.0005 --resume
  set -- --prior "$work/agents/$name/codec" --classifier http://127.0.0.1:8765
  counterscan classifier serve "$box" &
  server=$!
  trap "kill $server" EXIT # a service that outlived its run would answer for the next set
  until curl --silent --fail --output /dev/null http://127.0.0.1:8765/health; do kill -0 $server || exit 1; sleep 1; done
  kill -0 $server # and not another one on its port
  counterscan fit "$work/$name" "$@" --fold 2 --fold 3 --fold 4 --out "$work/agents/$name/agent"
  counterscan explain "$work/$name" "$@" --fold 0 --judge "$judge" --target "$target" --with diffusion-autoencoder \
    --set fitted="$work/agents/$name/agent" --out "$work/measured/agent-$name"
  kill $server
  trap - EXIT
  counterscan score "$work/measured/agent-$name" --judge "$judge" --json "results/real_$name-diffusion-autoencoder.json"
}

agent() { # after ct and cxr: their classifiers behind HTTP, those of fold 0 for ct
  asked cxr "$work/cxr-classifier" "$work/cxr-judge" normal
  asked ct "$work/folds/0/classifier" "$work/folds/0/judge" tumour=0
}

classifiers() { # set, phantoms to go on from, radius of the robust one
  local to=$work/retina/$1 kind=$2 radius=$3
  set -- --data "$work/$1" --set flip=true --set rate=0.0005 --resume
  counterscan train classifier "$@" --out "$to/classifier" --set start="$kind/classifier" --set steps=300
  counterscan train classifier "$@" --out "$to/judge" --set network=vgg --set start="$kind/judge" --set steps=200 \
    --set seed=1
  counterscan train robust-classifier "$@" --out "$to/robust" --set start="$kind/robust" --set beside="$to/classifier" \
    --set radius="$radius" --set inner=3 --set batch=16 --set steps=150 --set measured=40
}

denoiser() { # folder of the models, set, phantoms to go on from
  counterscan train diffusion --data "$work/$2" --out "$work/retina/$1/denoiser" --set start="$3/denoiser" \
    --set flip=true --set rate=0.0003 --set steps=800 --resume
}

retina() { # set, folder of the models: figures, with the denoiser of the third
  python "$here/real_retina.py" "$1" --work "$work" --models "$work/retina/$2" --denoiser "$work/retina/$3/denoiser" \
    --json "results/real_$1-diffusion-guidance.json"
}

fundus() {
  sets fundus fundus_grades fundus_masks fundus_images
  classifiers fundus fundus 2
  denoiser fundus fundus_images fundus
  retina fundus fundus fundus
  retina fundus_masks fundus fundus
  classifiers fundus_grades fundus 2
  retina fundus_grades fundus_grades fundus
}

oct() {
  sets oct oct_kermany
  classifiers oct oct 1.2
  denoiser oct oct oct
  retina oct oct oct
  retina oct_kermany oct oct
}

for one in ${2:-ct kits cxr text agent fundus oct}; do "$one"; done
