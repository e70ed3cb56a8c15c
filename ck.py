import sys; from safetensors.torch import load_file, save_file; from pathlib import Path
s=load_file(f'.scratch/{sys.argv[1]}.safetensors'); o=Path('out/ck'); o.mkdir(exist_ok=True,parents=True); print(s['step']); save_file({k:v for k,v in s.items() if k!='step' and not k.startswith('moment.')},'out/ck/model.safetensors')
