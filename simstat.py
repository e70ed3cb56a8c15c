import numpy as np
from itertools import combinations
from scipy.stats import beta, t as T
def multiway(y, clusters):
    n=len(y); d=y-y.mean(); out={}
    dims=range(clusters.shape[1]); V=0.0; singles=[]
    for r in range(1,len(dims)+1):
        for S in combinations(dims,r):
            _,inv=np.unique(clusters[:,S],axis=0,return_inverse=True); inv=inv.ravel(); G=inv.max()+1
            v=(np.bincount(inv,d)**2).sum()/n**2*G/max(G-1,1)
            V+=(-1)**(r+1)*v
            if r==1: singles.append((v,G))
    iid=d.var()/(n-1)
    V=max(V,max(v for v,_ in singles),iid) if True else V
    return V,min(G for _,G in singles)-1
def interval(y,clusters):
    n=len(y);p=y.mean(); V,df=multiway(y,clusters)
    ne=n if V==0 else min(n,p*(1-p)/V)
    ne*= (T.ppf(.975,n-1)/T.ppf(.975,df))**2
    k=p*ne
    return (0 if p==0 else beta.ppf(.025,k,ne-k+1)),(1 if p==1 else beta.ppf(.975,k+1,ne-k))
def midp(y,clusters):
    # wilson with ne
    n=len(y);p=y.mean(); V,df=multiway(y,clusters)
    ne=n if V==0 else min(n,p*(1-p)/V)
    z=T.ppf(.975,df); 
    c=(p+z*z/2/ne)/(1+z*z/ne); h=z*np.sqrt(p*(1-p)/ne+z*z/4/ne**2)/(1+z*z/ne)
    return max(0,c-h) if p>0 else 0.,min(1,c+h) if p<1 else 1.
def jeff(y,clusters):
    n=len(y);p=y.mean(); V,df=multiway(y,clusters)
    ne=n if V==0 else min(n,p*(1-p)/V)
    ne*= (T.ppf(.975,n-1)/T.ppf(.975,df))**2
    k=p*ne
    return (0 if p==0 else beta.ppf(.025,k+.5,ne-k+.5)),(1 if p==1 else beta.ppf(.975,k+.5,ne-k+.5))
rng=np.random.default_rng(0)
def sim(n,N,W,mu,sn,sw,reps=400):
    c={'cp':0,'wil':0,'jef':0}; w=0
    # truth: marginal over noun, wording
    z=rng.normal(size=(200000,2)); truth=(1/(1+np.exp(-(mu+sn*z[:,0]+sw*z[:,1])))).mean()
    for _ in range(reps):
        a=rng.normal(size=N)*sn;b=rng.normal(size=W)*sw
        i=np.arange(n)%N; j=rng.integers(0,W,n)
        y=(rng.random(n)<1/(1+np.exp(-(mu+a[i]+b[j])))).astype(float)
        for nm,f in (('cp',interval),('wil',midp),('jef',jeff)):
            lo,hi=f(y,np.stack([i,j],1)); c[nm]+=lo<=truth<=hi
    print(n,N,W,'truth %.3f'%truth,{k:round(v/reps,3) for k,v in c.items()},flush=True)
if __name__=='__main__':
    for n in (48,100,200):
        for mu in (-3.5,-1,0.,2.):
            for s in (0.,1.):
                sim(n,24,16,mu,s,s)
